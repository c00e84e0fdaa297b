//! Reads what a process is: its identity, as the host sees it.

use std::path::PathBuf;

use verdict::{Executable, Process};

use crate::{
    cgroup,
    directory::{Directory, Image},
    host::{Host, Named},
    script,
};

/// Reads processes, as the host sees them.
#[derive(Debug)]
pub struct Reader {
    host: Host,
}

/// What was read of a process.
#[derive(Debug)]
pub struct Read {
    /// All there is to know, but for parents and hash.
    pub process: Process,
    /// What it executed.
    pub image: Image,
    /// Its parent; 0: none.
    pub parent: u32,
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It ended, executed something else meanwhile, or is a kernel thread.
    Gone,
    /// The directory is a thread's, of the process with this id.
    ThreadOf(u32),
}

impl Reader {
    /// Paths are what `host` has there.
    pub const fn new(host: Host) -> Self {
        Self { host }
    }

    /// Reads the process `pid`, whose directory this is.
    pub fn read(&self, pid: u32, directory: &Directory) -> Result<Read, Unread> {
        let ids = directory.ids().ok_or(Unread::Gone)?;
        // a thread began later than its process, and may end before it
        if ids.pid != pid {
            return Err(Unread::ThreadOf(ids.pid));
        }
        self.describe(pid, ids.uid, directory).ok_or(Unread::Gone)
    }

    fn describe(&self, pid: u32, uid: u32, directory: &Directory) -> Option<Read> {
        let life = directory.stat()?;
        let file = directory.executable().ok()?;
        let Named {
            claimed,
            trusted,
            deleted,
        } = self.host.name(directory.as_fd(), "exe", &file)?;
        let executable = Executable {
            path: trusted.then(|| claimed.clone()),
            device: file.st_dev,
            inode: file.st_ino,
            claimed_path: claimed,
            deleted,
            sha256: None,
        };
        let cgroup = directory.read("cgroup", 16 << 10)?;
        let mut process = Process {
            pid,
            start_time: life.start_time,
            uid,
            executable,
            script: None,
            comm: life.comm,
            cmdline: directory.arguments(),
            parents: Vec::new(),
            cgroup: cgroup::parse_file(&String::from_utf8_lossy(&cgroup)),
            network_namespace: directory.namespace("ns/net"),
            mount_namespace: directory.namespace("ns/mnt"),
        };
        process.script = self.script(directory, &process);
        let image = Image::of(&file);
        // had it executed something else meanwhile, this would be a mixture of both
        (directory.image() == Ok(image)).then_some(Read {
            process,
            image,
            parent: life.parent,
        })
    }

    /// The file that the process itself has at that path, by the host's name for it.
    fn script(&self, directory: &Directory, process: &Process) -> Option<PathBuf> {
        let interpreter = process.executable.path.as_ref()?;
        let path = script::of(interpreter, &process.cmdline, &directory.link("cwd")?)?;
        self.host.script(directory.as_fd(), &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_read() {
        let pid = std::process::id();
        let directory = Directory::open(pid).unwrap();
        let read = Reader::new(Host::open().0).read(pid, &directory).unwrap();
        let process = read.process;
        assert_eq!(process.executable.path, std::env::current_exe().ok());
        assert_eq!(process.pid, pid);
        assert_eq!(read.image, directory.image().unwrap());
        assert_eq!(read.parent, std::os::unix::process::parent_id());
        assert!(process.start_time > 0 && process.network_namespace > 0);
    }

    #[test]
    fn a_thread_is_its_process() {
        std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            let directory = Directory::open(thread).unwrap();
            let read = Reader::new(Host::open().0).read(thread, &directory);
            assert_eq!(read.err(), Some(Unread::ThreadOf(std::process::id())));
        })
        .join()
        .unwrap();
    }
}
