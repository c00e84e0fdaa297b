//! A process's directory under `/proc`.
//!
//! Everything is read through one descriptor of that directory: when the process ends, the descriptor names nobody, so no
//! answer can mix two processes that had the same pid.

use std::{ffi::OsStr, io::Read as _, os::unix::ffi::OsStrExt as _, path::PathBuf};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};

/// Arguments are for display: a process may have megabytes of them.
const MOST_ARGUMENTS: usize = 4096;

/// A process's directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    /// The whole process's, where `fd` is a thread's.
    process: Option<OwnedFd>,
}

/// What tells one program image from another: changes with `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    device: u64,
    inode: u64,
    deleted: bool,
}

/// `pid (comm) state ppid … starttime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Command name.
    pub comm: String,
    /// Parent.
    pub parent: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

/// `Uid:` and `Tgid:` of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Effective user.
    pub uid: u32,
    /// Process id: the thread group's leader.
    pub pid: u32,
}

impl Directory {
    /// Of a process, or of a thread by its id.
    pub fn open(pid: u32) -> Result<Self, Errno> {
        let fd = folder(CWD, &format!("/proc/{pid}"))?;
        Ok(Self { fd, process: None })
    }

    /// Of a process; where its first thread has ended and others go on, through one of these: the first one's directory
    /// has no files and no executable then.
    pub fn of_process(pid: u32) -> Result<Self, Errno> {
        let whole = Self::open(pid)?;
        if whole.image().is_ok() {
            return Ok(whole);
        }
        let Some(fd) = whole.living_thread() else {
            return Ok(whole);
        };
        let process = Some(whole.fd);
        Ok(Self { fd, process })
    }

    fn living_thread(&self) -> Option<OwnedFd> {
        let threads = openat(&self.fd, "task", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Dir::read_from(&threads).ok()?.find_map(|entry| {
            let thread = folder(threads.as_fd(), entry.ok()?.file_name().to_str().ok()?).ok()?;
            statat(&thread, "exe", AtFlags::empty()).ok()?;
            Some(thread)
        })
    }

    /// The process still runs, or waits to be reaped.
    pub fn is_alive(&self) -> bool {
        statat(&self.fd, "stat", AtFlags::empty()).is_ok()
    }

    /// For reading its descriptors.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Effective user, as the directory shows it: root's where the process is not dumpable.
    pub fn owner(&self) -> Option<u32> {
        let stat = statat(&self.fd, "", AtFlags::EMPTY_PATH).ok()?;
        Some(stat.st_uid)
    }

    /// What it executes now. An error for kernel threads and for processes that ended.
    pub fn image(&self) -> Result<Image, Errno> {
        self.executable().map(|stat| Image::of(&stat))
    }

    pub(crate) fn executable(&self) -> Result<Stat, Errno> {
        statat(&self.fd, "exe", AtFlags::empty())
    }

    /// Command name, parent, start time. These are the process's, also where the directory is a thread's.
    pub fn stat(&self) -> Option<Life> {
        let whole = self.process.as_ref().unwrap_or(&self.fd);
        parse_stat(&read(whole.as_fd(), "stat", 4096)?)
    }

    /// Arguments, each cut to what is sensible to show.
    pub fn arguments(&self) -> Vec<String> {
        let octets = self.read("cmdline", MOST_ARGUMENTS).unwrap_or_default();
        let octets = octets.strip_suffix(&[0]).unwrap_or(&octets);
        if octets.is_empty() {
            return Vec::new();
        }
        octets
            .split(|octet| *octet == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// Who it is to the kernel.
    pub fn ids(&self) -> Option<Ids> {
        let status = self.read("status", 4096)?;
        let text = String::from_utf8_lossy(&status);
        let field = |name: &str, at: usize| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().nth(at)?.parse().ok()
        };
        Some(Ids {
            uid: field("Uid:", 1)?,
            pid: field("Tgid:", 0)?,
        })
    }

    pub(crate) fn link(&self, name: &str) -> Option<PathBuf> {
        let target = readlinkat(&self.fd, name, Vec::with_capacity(256)).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Inode number in a link like `mnt:[4026531841]`.
    pub(crate) fn namespace(&self, name: &str) -> u64 {
        let text = self.link(name).unwrap_or_default();
        let number = text.to_string_lossy();
        number
            .split_once('[')
            .and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn read(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        read(self.as_fd(), name, most)
    }
}

fn folder(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn read(folder: BorrowedFd<'_>, name: &str, most: usize) -> Option<Vec<u8>> {
    let fd = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut octets = Vec::with_capacity(most.min(1024));
    std::fs::File::from(fd)
        .take(u64::try_from(most).ok()?)
        .read_to_end(&mut octets)
        .ok()?;
    Some(octets)
}

impl Image {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            deleted: stat.st_nlink == 0,
        }
    }
}

/// The command name may hold spaces and parentheses: it ends at the last one.
fn parse_stat(octets: &[u8]) -> Option<Life> {
    let text = String::from_utf8_lossy(octets);
    let (_, rest) = text.split_once('(')?;
    let (comm, rest) = rest.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Life {
        comm: comm.to_owned(),
        parent: fields.nth(1)?.parse().ok()?,
        start_time: fields.nth(17)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_with_parentheses_is_read_to_its_end() {
        let line = b"42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        let life = parse_stat(line).unwrap();
        assert_eq!(
            (life.comm.as_str(), life.parent, life.start_time),
            ("a) b (c", 1, 777)
        );
    }

    #[test]
    fn who_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let directory = Directory::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!directory.is_alive() && directory.image().is_err());
    }

    proptest! {
        #[test]
        fn reading_is_total(octets: Vec<u8>) {
            let _ = parse_stat(&octets);
        }
    }
}
