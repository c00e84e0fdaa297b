//! `portmaster rules`: files checked before they are put in force, and the shipped ones.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use verdict::policy::SHIPPED_GLOBAL;

use crate::{
    args::CheckArgs,
    files::{self, Content},
    output::print,
    printable::printable,
    users::Users,
};

/// `portmaster rules default`
pub(crate) fn shipped() -> Result<ExitCode> {
    print(SHIPPED_GLOBAL)
}

/// `portmaster rules check`: what is good on standard output, what is refused on standard error.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let users = Users::of_this_host();
    let mut good = String::new();
    let mut refused = false;
    for path in &args.files {
        for result in check_path(path, &users) {
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

fn check_path(path: &Path, users: &Users) -> Vec<Result<String>> {
    if !path.is_dir() {
        return vec![check_file(path, users)];
    }
    match files::in_folder(path) {
        Ok(found) if found.is_empty() => vec![Ok(format!(
            "{}: no profiles\n",
            printable(&path.to_string_lossy())
        ))],
        Ok(found) => found.iter().map(|path| check_file(path, users)).collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Also tries whether the file can be decided by: globs are compiled then.
fn check_file(path: &Path, users: &Users) -> Result<String> {
    let content = files::read(path, users)?;
    let mut line = format!("{}: good, ", printable(&path.to_string_lossy()));
    let _infallible = match &content {
        Content::Global(global) => writeln!(line, "settings for all programs, {} rules", global.rules.len()),
        Content::Profile(profile) => {
            let (name, matchers, rules) = (
                printable(&profile.name),
                profile.matchers.len(),
                profile.rules.len(),
            );
            writeln!(line, "profile {name:?}, {matchers} matchers, {rules} rules")
        }
    };
    files::compile(vec![content]).with_context(|| path.display().to_string())?;
    Ok(line)
}
