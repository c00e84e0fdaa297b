//! The version before this one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use integration::{binary, process::run};
use tempfile::TempDir;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(crate) fn commit() -> &'static str {
    include_str!("../../previous-version").trim()
}

/// What its programs say that they are.
pub(crate) fn version() -> String {
    format!("+{}", commit().get(..12).unwrap())
}

/// One of its programs; `None` where nothing is known of earlier versions.
///
/// # Panics
/// Where it could be there and is not built.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let own = binary("portmaster");
    let target = own.ancestors().nth(2).unwrap();
    let program = target.join("previous").join(commit()).join("debug").join(name);
    if program.exists() {
        return Some(program);
    }
    assert!(
        !has_history(),
        "{} is not built: run scripts/previous first",
        program.display()
    );
    None
}

/// Whether its source has this folder.
pub(crate) fn has(folder: &str) -> bool {
    let mut look = Command::new("git");
    look.args(["-c", &format!("safe.directory={}", repository().display())])
        .args(["cat-file", "-e", &format!("{}:{folder}", commit())])
        .current_dir(repository());
    has_history() && look.output().is_ok_and(|output| output.status.success())
}

/// Some of its source, in a folder that ends with the test.
pub(crate) fn source(folder: &str) -> Option<TempDir> {
    if !has_history() {
        return None;
    }
    let place = tempfile::tempdir().unwrap();
    // root may test what somebody else cloned
    let tar = place.path().join("source.tar");
    let mut archive = Command::new("git");
    archive
        .args(["-c", &format!("safe.directory={}", repository().display())])
        .args(["archive", "--output"])
        .arg(&tar)
        .args([commit(), folder])
        .current_dir(repository());
    run(&mut archive);
    run(Command::new("tar")
        .arg("-xf")
        .arg(&tar)
        .arg("-C")
        .arg(place.path()));
    Some(place)
}

fn has_history() -> bool {
    let has = repository().join(".git").exists();
    if !has {
        eprintln!("skipped: the repository's history is not here, and so no earlier version");
    }
    has
}

fn repository() -> PathBuf {
    Path::new(REPOSITORY).canonicalize().unwrap()
}
