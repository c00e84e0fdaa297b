//! Opens what another root has at a path, following links as a process with that root would.
//!
//! Step by step, since `openat2(2)` is not to be had under `RestrictSUIDSGID=` (systemd answers it with `ENOSYS`). Links on
//! procfs are not followed: where they lead depends on who asks.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{FileType, Mode, OFlags, fstat, fstatfs, openat, readlinkat},
    io::Errno,
};

/// As the kernel has it (`path_resolution(7)`).
const MOST_LINKS: usize = 40;
/// `linux/magic.h`, `PROC_SUPER_MAGIC`.
const PROCFS: u64 = 0x9fa0;

/// Opens it without rights to read or write (`O_PATH`). `ELOOP` where a link is not followed.
pub fn open_in(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    if !path.is_absolute() {
        return Err(Errno::INVAL);
    }
    let mut steps = steps(path);
    // from below the root to where we are: `..` goes back, and never above the root
    let mut way = Vec::new();
    let mut links = 0;
    while let Some(step) = steps.pop() {
        if step == ".." {
            way.pop();
            continue;
        }
        let next = open(here(root, &way), &step)?;
        if !FileType::from_raw_mode(fstat(&next)?.st_mode).is_symlink() {
            way.push(next);
            continue;
        }
        links += 1;
        if links > MOST_LINKS || u64::try_from(fstatfs(&next)?.f_type) == Ok(PROCFS) {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(&next, "", Vec::with_capacity(256))?;
        let target = Path::new(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            way.clear();
        }
        steps.extend(self::steps(target));
    }
    way.pop().map_or_else(|| open(root, OsStr::new(".")), Ok)
}

fn here<'a>(root: BorrowedFd<'a>, way: &'a [OwnedFd]) -> BorrowedFd<'a> {
    way.last().map_or(root, AsFd::as_fd)
}

fn open(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// The last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().rev().filter_map(|component| match component {
        Component::ParentDir => Some("..".into()),
        Component::Normal(name) => Some(name.to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/file"), "").unwrap();
        fs::write(at("top"), "").unwrap();
        symlink("/a", at("absolute")).unwrap();
        symlink("../file", at("a/b/up")).unwrap();
        symlink("../../../../top", at("a/b/above")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("/etc", at("outside")).unwrap();
        let top = File::open(root.path()).unwrap();
        let place = |file: OwnedFd| fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        let same = |path: &str, real: &str| {
            let there = File::open(at(real)).unwrap().into();
            let found = open_in(top.as_fd(), Path::new(path)).and_then(place);
            assert_eq!(found, place(there), "{path}");
        };
        same("/a/file", "a/file");
        same("/a/b/../file", "a/file");
        same("/absolute/b/up", "a/file");
        same("/a/b/above", "top");
        same("/../../top", "top");
        same("//a/./b/", "a/b");
        same("/", "");
        for (path, error) in [
            ("/loop", Errno::LOOP),
            ("/outside", Errno::NOENT),
            ("/a/file/x", Errno::NOTDIR),
            ("/a/none", Errno::NOENT),
            ("a/file", Errno::INVAL),
        ] {
            assert_eq!(open_in(top.as_fd(), Path::new(path)).err(), Some(error), "{path}");
        }
    }

    #[test]
    fn links_of_proc_are_not_followed() {
        let root = File::open("/").unwrap();
        for path in ["/proc/self/exe", "/proc/self/cwd/x"] {
            let opened = open_in(root.as_fd(), Path::new(path));
            assert_eq!(opened.err(), Some(Errno::LOOP), "{path}");
        }
    }
}
