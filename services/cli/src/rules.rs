//! `portmaster rules`: files checked before they are put in force, and the shipped ones.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};
use verdict::policy::SHIPPED_GLOBAL;

use crate::{
    args::CheckArgs,
    files::{self, Content},
    output::print,
    printable::printable,
};

/// `portmaster rules default`
pub(crate) fn shipped() -> Result<ExitCode> {
    print(SHIPPED_GLOBAL)
}

/// `portmaster rules check`: what is good on standard output, what is refused on standard error.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let mut good = String::new();
    let mut refused = false;
    for path in &args.files {
        for result in check_path(path) {
            match result {
                Ok(line) => good += &line,
                Err(error) => {
                    refused = true;
                    eprintln!("{}", printable(&format!("{error:#}")));
                }
            }
        }
    }
    print(&good)?;
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn check_path(path: &Path) -> Vec<Result<String>> {
    if !path.is_dir() {
        return vec![check_file(path)];
    }
    match files::in_folder(path) {
        Ok(found) if found.is_empty() => vec![Ok(format!(
            "{}: no profiles\n",
            printable(&path.to_string_lossy())
        ))],
        Ok(found) => found.iter().map(|path| check_file(path)).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Also tries whether the file can be decided by: globs are compiled then.
fn check_file(path: &Path) -> Result<String> {
    let content = files::read(path)?;
    let mut line = format!("{}: good, ", printable(&path.to_string_lossy()));
    line += &match &content {
        Content::Global(global) => format!(
            "settings for all programs, {}\n",
            count(global.rules.len(), "rule")
        ),
        Content::Profile(profile) => {
            let matchers = count(profile.matchers.len(), "matcher");
            let rules = count(profile.rules.len(), "rule");
            format!("profile {:?}, {matchers}, {rules}\n", printable(&profile.name))
        }
    };
    files::compile(vec![content]).with_context(|| path.display().to_string())?;
    Ok(line)
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
