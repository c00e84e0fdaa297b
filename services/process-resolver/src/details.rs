//! Reads what a process is from its directory under `/proc`.
//!
//! Everything is read through one descriptor of that directory: when the process ends, the descriptor names nobody, so no
//! answer can mix two processes that had the same pid.

use std::{
    ffi::OsStr,
    io::Read as _,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, Stat, openat, readlinkat, stat, statat},
    io::Errno,
};
use verdict::{Executable, Process};

use crate::{
    cgroup,
    mounts::{self, HostMounts},
    script,
};

const DELETED: &[u8] = b" (deleted)";
/// Arguments are for display: a process may have megabytes of them.
const MOST_ARGUMENTS: usize = 4096;

/// A process's directory.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// What tells one program image from another: changes with `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    device: u64,
    inode: u64,
    deleted: bool,
}

/// `pid (comm) state ppid … starttime`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat4 {
    /// Command name.
    pub comm: String,
    /// Parent.
    pub parent: u32,
    /// Clock ticks after boot.
    pub start_time: u64,
}

impl Directory {
    /// Of a process, or of a thread by its id.
    pub fn open(pid: u32) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, format!("/proc/{pid}"), flags, Mode::empty()).map(Self)
    }

    /// The process still runs, or waits to be reaped.
    pub fn is_alive(&self) -> bool {
        statat(&self.0, "stat", AtFlags::empty()).is_ok()
    }

    /// For reading its descriptors.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What it executes now. An error for kernel threads and for processes that ended.
    pub fn image(&self) -> Result<Image, Errno> {
        self.executable_stat().map(|stat| Image::of(&stat))
    }

    fn executable_stat(&self) -> Result<Stat, Errno> {
        statat(&self.0, "exe", AtFlags::empty())
    }

    /// Command name, parent, start time.
    pub fn stat(&self) -> Option<Stat4> {
        parse_stat(&self.read("stat", 4096)?)
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

    /// Effective user, and the process that a thread belongs to.
    fn ids(&self) -> Option<(u32, u32)> {
        let status = self.read("status", 4096)?;
        let text = String::from_utf8_lossy(&status);
        let field = |name: &str, at: usize| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().nth(at)?.parse().ok()
        };
        Some((field("Uid:", 1)?, field("Tgid:", 0)?))
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        let target = readlinkat(&self.0, name, Vec::with_capacity(256)).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Inode number in a link like `mnt:[4026531841]`.
    fn namespace(&self, name: &str) -> u64 {
        let text = self.link(name).unwrap_or_default();
        let number = text.to_string_lossy();
        number
            .split_once('[')
            .and_then(|(_, rest)| rest.strip_suffix(']')?.parse().ok())
            .unwrap_or(0)
    }

    fn read(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        let fd = openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut octets = Vec::with_capacity(most.min(1024));
        std::fs::File::from(fd)
            .take(u64::try_from(most).ok()?)
            .read_to_end(&mut octets)
            .ok()?;
        Some(octets)
    }
}

impl Image {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            deleted: stat.st_nlink == 0,
        }
    }
}

/// Reads processes, as the host sees them.
#[derive(Debug)]
pub struct Reader {
    mounts: HostMounts,
}

impl Reader {
    /// Learns what the host's mounts are.
    pub fn of_this_host() -> Self {
        Self {
            mounts: HostMounts::open(),
        }
    }

    /// All there is to know, but for parents and hash. `None`: it ended, or is a kernel thread.
    pub fn read(&self, directory: &Directory) -> Option<(Process, Image, u32)> {
        let stat = directory.stat()?;
        let (uid, pid) = directory.ids()?;
        let file = directory.executable_stat().ok()?;
        let executable = self.executable(directory, &file)?;
        let cmdline = directory.arguments();
        let mut process = Process {
            pid,
            start_time: stat.start_time,
            uid,
            executable,
            script: None,
            comm: stat.comm,
            cmdline,
            parents: Vec::new(),
            cgroup: cgroup::parse_file(&String::from_utf8_lossy(&directory.read("cgroup", 16 << 10)?)),
            network_namespace: directory.namespace("ns/net"),
            mount_namespace: directory.namespace("ns/mnt"),
        };
        process.script = script_of(directory, &process);
        // had it executed something else meanwhile, this would be a mixture of both
        let same = directory.image() == Ok(Image::of(&file));
        same.then(|| (process, Image::of(&file), stat.parent))
    }

    fn executable(&self, directory: &Directory, file: &Stat) -> Option<Executable> {
        let link = directory.link("exe")?;
        let octets = link.into_os_string().into_vec();
        // a file may be called so: then it is there, under its whole name
        let there = || file.st_nlink > 0 && is_same(Path::new(OsStr::from_bytes(&octets)), file);
        let gone = octets.strip_suffix(DELETED).filter(|_| !there());
        let deleted = gone.is_some();
        let claimed = PathBuf::from(OsStr::from_bytes(gone.unwrap_or(&octets)));
        let on_host = || mounts::of(directory.as_fd(), "exe").is_some_and(|mount| self.mounts.has(mount));
        // on a mount of others: the host must have this very file at that path
        let verified = on_host() || (!deleted && is_same(&claimed, file));
        Some(Executable {
            path: verified.then(|| claimed.clone()),
            device: file.st_dev,
            inode: file.st_ino,
            claimed_path: claimed,
            deleted,
            sha256: None,
        })
    }
}

/// The script, where the process and the host have the same file at that path.
fn script_of(directory: &Directory, process: &Process) -> Option<PathBuf> {
    let interpreter = process.executable.path.as_ref()?;
    let script = script::of(interpreter, &process.cmdline, &directory.link("cwd")?)?;
    let own = Path::new("root").join(script.strip_prefix("/").ok()?);
    let own = statat(directory.as_fd(), own, AtFlags::empty()).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(own.st_mode).is_file();
    (regular && is_same(&script, &own)).then_some(script)
}

/// The host has `file` at `path`. Asked through pid 1's root, since a hardened service does not see all of the host's files.
fn is_same(path: &Path, file: &Stat) -> bool {
    let Ok(relative) = path.strip_prefix("/") else {
        return false;
    };
    let same = |there: Stat| (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino);
    stat(Path::new("/proc/1/root").join(relative))
        .or_else(|_| stat(path))
        .is_ok_and(same)
}

/// The command name may hold spaces and parentheses: it ends at the last one.
fn parse_stat(octets: &[u8]) -> Option<Stat4> {
    let text = String::from_utf8_lossy(octets);
    let (_, rest) = text.split_once('(')?;
    let (comm, rest) = rest.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    Some(Stat4 {
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
    fn this_process_is_read() {
        let directory = Directory::open(std::process::id()).unwrap();
        let (process, image, parent) = Reader::of_this_host().read(&directory).unwrap();
        assert_eq!(process.executable.path, std::env::current_exe().ok());
        assert_eq!(process.pid, std::process::id());
        assert_eq!(image, directory.image().unwrap());
        assert_eq!(parent, std::os::unix::process::parent_id());
        assert!(process.start_time > 0 && process.network_namespace > 0);
    }

    #[test]
    fn a_name_with_parentheses_is_read_to_its_end() {
        let line = b"42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            (stat.comm.as_str(), stat.parent, stat.start_time),
            ("a) b (c", 1, 777)
        );
    }

    #[test]
    fn who_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let directory = Directory::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(!directory.is_alive() && Reader::of_this_host().read(&directory).is_none());
    }

    proptest! {
        #[test]
        fn reading_is_total(octets: Vec<u8>) {
            let _ = parse_stat(&octets);
        }
    }
}
