//! The script that an interpreter runs. Pure but for the question whether a file is there, which the caller answers.
//!
//! Limit: arguments are the process's own words. At its start they are what the kernel or its parent put there, and an
//! interpreter given a file runs that file; later it may overwrite them. A profile by script is as good as that.

use std::path::{Path, PathBuf};

/// Interpreter names, without version; options that take a value, so that the next word is no script; options that carry
/// the program themselves, so that there is no script.
struct Interpreter {
    names: &'static [&'static str],
    with_value: &'static [&'static str],
    program: &'static [&'static str],
}

const INTERPRETERS: [Interpreter; 6] = [
    Interpreter {
        names: &["python", "pypy"],
        with_value: &["-W", "-X", "--check-hash-based-pycs"],
        program: &["-c", "-m"],
    },
    Interpreter {
        names: &["bash", "sh", "dash", "ash", "zsh", "ksh", "mksh", "fish"],
        with_value: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        program: &["-c", "-s"],
    },
    Interpreter {
        names: &["perl"],
        with_value: &["-I", "-M", "-m"],
        program: &["-e", "-E"],
    },
    Interpreter {
        names: &["ruby"],
        with_value: &["-I", "-r", "-E"],
        program: &["-e"],
    },
    Interpreter {
        names: &["node", "nodejs", "deno", "bun"],
        with_value: &["-r", "--require", "--import", "--loader"],
        program: &["-e", "--eval", "-p", "--print"],
    },
    Interpreter {
        names: &["php", "lua", "luajit", "tclsh", "wish", "Rscript", "guile", "gjs"],
        with_value: &["-d", "-c", "-l"],
        program: &["-r", "-e"],
    },
];

/// Whether the file named so is an interpreter.
pub fn is_interpreter(executable: &Path) -> bool {
    interpreter(executable).is_some()
}

fn interpreter(executable: &Path) -> Option<&'static Interpreter> {
    let name = executable.file_name()?.to_str()?;
    let bare =
        name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.' || letter == '-');
    INTERPRETERS
        .iter()
        .find(|interpreter| interpreter.names.contains(&bare) || interpreter.names.contains(&name))
}

/// The script named by `arguments` (the whole command line) of the interpreter `executable`, made absolute by `directory`
/// (the working directory). `None`: not an interpreter, or none of its arguments is a script.
pub fn of(executable: &Path, arguments: &[String], directory: &Path) -> Option<PathBuf> {
    let interpreter = interpreter(executable)?;
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        if word == "--" {
            return words.next().map(|script| directory.join(script));
        }
        if interpreter.program.iter().any(|option| carries(word, option)) {
            return None;
        }
        if interpreter.with_value.contains(&word.as_str()) {
            words.next();
        } else if !(word.starts_with('-') || word.starts_with('+')) {
            return (!word.is_empty()).then(|| directory.join(word));
        } else if word == "-" {
            return None;
        }
    }
    None
}

/// `-c`, `-c'code'`, and `-c` among short flags (`-uc`).
fn carries(word: &str, option: &str) -> bool {
    match option.strip_prefix('-') {
        Some(letter) if letter.len() == 1 => {
            word.starts_with('-') && !word.starts_with("--") && word.contains(letter)
        }
        _ => {
            word == option
                || word
                    .strip_prefix(option)
                    .is_some_and(|rest| rest.starts_with('='))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(executable: &str, arguments: &[&str]) -> Option<PathBuf> {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        of(Path::new(executable), &arguments, Path::new("/home/u"))
    }

    #[test]
    fn the_first_plain_word_is_the_script() {
        assert_eq!(
            script(
                "/usr/bin/python3.11",
                &["python3", "-u", "-W", "error", "x.py", "-c"]
            ),
            Some("/home/u/x.py".into())
        );
        assert_eq!(
            script("/usr/bin/bash", &["bash", "/opt/run.sh"]),
            Some("/opt/run.sh".into())
        );
        assert_eq!(
            script("/usr/bin/node", &["node", "--require", "x", "a.js"]),
            Some("/home/u/a.js".into())
        );
        assert_eq!(
            script("/usr/bin/perl", &["perl", "--", "-odd"]),
            Some("/home/u/-odd".into())
        );
    }

    #[test]
    fn a_program_in_the_arguments_is_no_script() {
        assert_eq!(
            script("/usr/bin/python3", &["python3", "-c", "import os", "x.py"]),
            None
        );
        assert_eq!(
            script("/usr/bin/python3", &["python3", "-Ic", "import os", "x.py"]),
            None
        );
        assert_eq!(
            script("/usr/bin/python3", &["python3", "-m", "http.server"]),
            None
        );
        assert_eq!(
            script("/usr/bin/bash", &["bash", "-ec", "true", "/opt/run.sh"]),
            None
        );
        assert_eq!(script("/usr/bin/node", &["node", "--eval=1", "a.js"]), None);
    }

    #[test]
    fn others_have_none() {
        assert_eq!(script("/usr/bin/curl", &["curl", "x.py"]), None);
        assert_eq!(script("/usr/bin/bash", &["-bash"]), None);
    }
}
