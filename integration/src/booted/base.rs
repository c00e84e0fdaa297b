//! The tree of a plain Debian, made once.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use crate::binary;

/// The distribution of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12: systemd 252. Units are checked on this one.
    #[default]
    Bookworm,
    /// Debian 13: systemd 257.
    Trixie,
}

impl Suite {
    const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Version of systemd.
    pub(super) const fn systemd(self) -> &'static str {
        match self {
            Self::Bookworm => "252",
            Self::Trixie => "257",
        }
    }
}

/// The least of a host, and what tests use.
const PACKAGES: [&str; 18] = [
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "polkitd",
    "iproute2",
    "iptables",
    "conntrack",
    "procps",
    "curl",
    "ca-certificates",
    "python3",
    "bind9-dnsutils",
    "iputils-ping",
    "openssh-server",
    "netcat-openbsd",
    "kmod",
    "nftables",
];

/// Where trees are kept: `target/booted`.
///
/// # Panics
/// If it cannot be made.
pub(super) fn folder() -> PathBuf {
    let program = binary("portmaster");
    let target = program.ancestors().nth(2).expect("programs are two below target");
    let folder = target.join("booted");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
    folder
}

/// A number that changes with what it is made of.
pub(super) fn mark(of: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The path of a tree, made by `make` where it is missing. Tests that want it at the same time wait for the one that makes
/// it; one that was interrupted leaves nothing that is taken for a tree.
pub(super) fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = folder();
    let lock = folder.join(".lock");
    let file = File::create(&lock).unwrap_or_else(|error| panic!("open {}: {error}", lock.display()));
    flock(&file, FlockOperation::LockExclusive).expect("lock a file");
    let path = folder.join(name);
    if !path.exists() {
        let new = folder.join(format!("{name}.new"));
        remove(&new);
        make(&new);
        fs::rename(&new, &path).unwrap_or_else(|error| panic!("rename {}: {error}", new.display()));
    }
    path
}

/// Removes trees of `kind` other than `kept` that are so old that no running test is on them.
pub(super) fn remove_old(kind: &str, kept: &Path) {
    let long = Duration::from_secs(30 * 60);
    let Ok(entries) = fs::read_dir(folder()) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified());
        let old = age.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > long));
        if old && path != kept && name.starts_with(kind) {
            remove(&path);
        }
    }
}

fn remove(path: &Path) {
    if path.exists() {
        fs::remove_dir_all(path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }
}

/// A plain Debian, with packages beside those of every host.
pub(super) fn tree(suite: Suite, more: &[&str]) -> PathBuf {
    let suite = suite.name();
    // no other name for the plain one, whatever it is asked with
    let name = if more.is_empty() {
        mark(PACKAGES)
    } else {
        mark((PACKAGES, more))
    };
    once(&format!("base-{suite}-{name}"), |path| {
        let packages: Vec<&str> = PACKAGES.iter().chain(more).copied().collect();
        // it may leave /proc mounted in the tree: in a mount namespace of its own that goes with it, and whoever copies or removes
        // `target` afterwards meets no file system of the machine's
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation=private",
            "debootstrap",
            "--variant=minbase",
        ]);
        command.arg("--cache-dir=/var/cache/apt/archives");
        command.arg(format!("--include={}", packages.join(",")));
        command.arg(suite).arg(path);
        eprintln!("making the tree of a host, once: {command:?}");
        crate::process::run(&mut command);
    })
}
