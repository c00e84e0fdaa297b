//! The product, installed by `scripts/install` into a folder that lies over the plain host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use super::base::{self, Suite};
use crate::{binary, process::run};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What `scripts/install` reads, beside the programs.
const SOURCES: [&str; 5] = ["scripts", "systemd-units", "dbus", "config", "docs"];
const PROGRAMS: [&str; 8] = [
    "portmaster",
    "portmaster-interceptor",
    "portmaster-process-resolver",
    "portmaster-policy",
    "portmaster-dns",
    "portmaster-gate17-entry",
    "portmaster-api-gateway",
    "portmaster-gate17-node",
];

/// The repository, where `scripts/install` is.
pub(super) fn repository() -> PathBuf {
    fs::canonicalize(REPOSITORY).expect("the repository is there")
}

/// Where cargo put the programs.
pub(super) fn programs() -> PathBuf {
    let programs = PROGRAMS.map(binary);
    programs[0].parent().expect("a program has a folder").to_owned()
}

/// The folder, as of the programs and files of this moment; with the users that a package's script makes.
pub(super) fn tree(base: &Path, suite: Suite) -> PathBuf {
    let mut parts: Vec<_> = PROGRAMS.iter().map(|name| state(&binary(name))).collect();
    for source in SOURCES {
        states(&repository().join(source), &mut parts);
    }
    let tree = base::once(&format!("product-{}", base::mark((base, parts))), |path| {
        let mut install = Command::new(repository().join("scripts/install"));
        run(install
            .env("DESTDIR", path)
            .env("PROGRAMS", programs())
            // of the host that it is for
            .env("SYSTEMD", suite.systemd()));
        make_users(base, path);
    });
    base::remove_old("product-", &tree);
    tree
}

fn make_users(base: &Path, path: &Path) {
    // with owners and modes
    let files = ["passwd", "group", "shadow", "gshadow"].map(|file| base.join("etc").join(file));
    run(Command::new("cp")
        .arg("--archive")
        .args(files)
        .arg(path.join("etc")));
    run(Command::new("systemd-sysusers").arg(format!("--root={}", path.display())));
    // so that the boot does not take this for an update of the system
    fs::write(path.join("etc/.updated"), "").expect("write etc/.updated");
}

type State = (PathBuf, Option<SystemTime>, u64);

fn state(path: &Path) -> State {
    let metadata = fs::metadata(path).ok();
    let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    (
        path.to_owned(),
        modified,
        metadata.map_or(0, |metadata| metadata.len()),
    )
}

fn states(folder: &Path, into: &mut Vec<State>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            states(&path, into);
        } else {
            into.push(state(&path));
        }
    }
}
