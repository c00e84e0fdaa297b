//! What the host calls a file: the view of pid 1.
//!
//! The path of a file on one of the host's mounts is the kernel's word. On any other mount it is whatever somebody made it:
//! a user may mount anything anywhere in a namespace of their own, and execute it from outside, through a descriptor. So
//! the mount of the file counts, not the namespace of the process. Of a file on another mount, the host must have that very
//! file at that path.
//!
//! The host's view is never this service's own as long as pid 1's is to be had: the service manager gives a hardened service
//! mounts of its own. In a container the host is the container: its pid 1 is the reference, and a file of the outside has
//! no path there. Where pid 1 cannot be looked at, this service's own view has to do, which may be another only where it
//! stands in a mount namespace of its own.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat},
    io::Errno,
};

use crate::{
    mounts::{self, Mounts},
    paths::open_in,
};

const DELETED: &[u8] = b" (deleted)";

/// The host's mounts and root.
#[derive(Debug, Default)]
pub struct Host {
    root: Option<OwnedFd>,
    mounts: Mounts,
}

/// A file and its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As whoever opened it sees it.
    pub claimed: PathBuf,
    /// And so does the host.
    pub trusted: bool,
    /// It is not there any more.
    pub deleted: bool,
}

impl Host {
    /// Of pid 1; where that is not to be seen, of this process, and why if that makes a difference. Without `/proc` no path
    /// is trusted.
    pub fn open() -> (Self, Option<io::Error>) {
        let own = || Self {
            root: root("self").ok(),
            mounts: Mounts::of("self").unwrap_or_default(),
        };
        match (Mounts::of("1"), root("1")) {
            (Err(error), _) => (own(), Some(error)),
            (Ok(mounts), Ok(root)) => {
                let root = Some(root);
                (Self { root, mounts }, None)
            }
            (Ok(mounts), Err(error)) => {
                let root = own().root;
                // a mount belongs to one namespace: with this one, we stand in the host's
                let of_host =
                    |root: &OwnedFd| mounts::of(root.as_fd(), ".").is_some_and(|mount| mounts.has(mount));
                let same = root.as_ref().is_some_and(of_host);
                (Self { root, mounts }, (!same).then_some(error.into()))
            }
        }
    }

    /// The path of the file behind the link `link`. `None`: the link cannot be read.
    pub fn name(&self, directory: BorrowedFd<'_>, link: &str, file: &Stat) -> Option<Named> {
        let octets = readlinkat(directory, link, Vec::with_capacity(256))
            .ok()?
            .into_bytes();
        // a file may be called so: then it is there, under its whole name
        let there = || file.st_nlink > 0 && self.has(Path::new(OsStr::from_bytes(&octets)), file);
        let gone = octets.strip_suffix(DELETED).filter(|_| !there());
        let deleted = gone.is_some();
        let claimed = PathBuf::from(OsStr::from_bytes(gone.unwrap_or(&octets)));
        let on_host = mounts::of(directory, link).is_some_and(|mount| self.mounts.has(mount));
        let trusted = on_host || (!deleted && self.has(&claimed, file));
        Some(Named {
            claimed,
            trusted,
            deleted,
        })
    }

    /// The host's name for the file that the process with this directory has at `path`: without links, `.` and `..`.
    /// `None` where it is no file, or none of the host's.
    pub fn script(&self, process: BorrowedFd<'_>, path: &Path) -> Option<PathBuf> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(process, "root", flags, Mode::empty()).ok()?;
        let file = open_in(root.as_fd(), path).ok()?;
        let stat = fstat(&file).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return None;
        }
        let own = openat(CWD, "/proc/self/fd", flags, Mode::empty()).ok()?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&file).to_string();
        let named = self.name(own.as_fd(), &number, &stat)?;
        (named.trusted && !named.deleted).then_some(named.claimed)
    }

    /// The host has `file` at `path`.
    fn has(&self, path: &Path, file: &Stat) -> bool {
        let there = self
            .root
            .as_ref()
            .and_then(|root| open_in(root.as_fd(), path).ok());
        let there = there.and_then(|there| fstat(there).ok());
        there.is_some_and(|there| (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino))
    }
}

fn root(process: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, format!("/proc/{process}/root"), flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn this() -> OwnedFd {
        openat(CWD, "/proc/self", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_script_has_one_name_however_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let script = folder.join("real.py");
        fs::write(&script, "pass").unwrap();
        symlink(&script, folder.join("absolute.py")).unwrap();
        symlink("real.py", folder.join("relative.py")).unwrap();
        symlink("nowhere", folder.join("dangling.py")).unwrap();
        let name = |path: PathBuf| Host::open().0.script(this().as_fd(), &path);
        for path in [
            "real.py",
            "absolute.py",
            "relative.py",
            "./x/../real.py",
            ".//real.py",
        ] {
            let there = !path.contains('x') || fs::create_dir(folder.join("x")).is_ok();
            assert!(there && name(folder.join(path)) == Some(script.clone()), "{path}");
        }
        for path in ["dangling.py", "none.py", "x"] {
            assert_eq!(name(folder.join(path)), None, "{path}");
        }
        // what is behind these depends on who asks
        assert_eq!(name("/proc/self/exe".into()), None);
        assert_eq!(name("real.py".into()), None);
    }

    #[test]
    fn without_a_view_of_the_host_no_path_is_trusted() {
        let own = fstat(fs::File::open("/proc/self/exe").unwrap()).unwrap();
        let named = |host: Host| host.name(this().as_fd(), "exe", &own).unwrap();
        assert!(!named(Host::default()).trusted);
        assert!(named(Host::open().0).trusted);
    }
}
