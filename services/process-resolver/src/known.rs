//! Processes that were read before. An answer from here is checked against the kernel each time: it must still run, and
//! execute the same image; so neither a reused pid nor an `exec` can pass for what was here before.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use moka::sync::Cache;
use verdict::{Parent, Process};

use crate::{
    details::{Read, Reader, Unread},
    directory::{Directory, Image},
    host::Host,
    script,
};

/// Longer chains are cut: nobody reads them, and a fork bomb's is endless.
const MOST_PARENTS: usize = 16;

/// A process as it was read.
#[derive(Debug)]
pub struct Known {
    /// Names this reading of it for as long as the resolver runs.
    pub serial: u64,
    /// What was read.
    pub process: Arc<Process>,
    /// Its directory.
    pub directory: Directory,
    image: Image,
    /// SHA-256 of what it executes, once it was asked for.
    pub hash: OnceLock<[u8; 32]>,
    /// Where its latest socket was found: the next one is there or close by.
    pub last_descriptor: AtomicU32,
}

impl Known {
    /// The descriptor where its latest socket was found.
    pub fn last(&self) -> u32 {
        self.last_descriptor.load(Ordering::Relaxed)
    }

    /// It runs, and executes what it did.
    pub fn is_current(&self) -> bool {
        if self.directory.image() != Ok(self.image) {
            return false;
        }
        // read in the middle of an exec, there were no arguments yet; and the same interpreter may run another script by now
        let interpreter = self
            .process
            .executable
            .path
            .as_deref()
            .is_some_and(script::is_interpreter);
        let unsettled = interpreter || self.process.cmdline.is_empty();
        !unsettled || self.directory.arguments() == self.process.cmdline
    }
}

/// Bounded; counted by the caller.
#[derive(Debug)]
pub struct Processes {
    by_pid: Cache<u32, Arc<Known>>,
    ancestors: Cache<u32, Arc<Ancestor>>,
    reader: Reader,
    serial: AtomicU64,
}

impl Processes {
    /// Holds a descriptor for each of at most `capacity` processes, and a quarter more for ancestors.
    pub fn new(capacity: u64, host: Host) -> Self {
        Self {
            by_pid: Cache::new(capacity),
            ancestors: Cache::new(capacity / 8),
            reader: Reader::new(host),
            serial: AtomicU64::new(0),
        }
    }

    /// How many are known.
    pub fn count(&self) -> u64 {
        self.by_pid.entry_count()
    }

    /// Where it was read before and is still the same; true: it was.
    pub fn cached(&self, pid: u32) -> Option<Arc<Known>> {
        let known = self.by_pid.get(&pid)?;
        if known.is_current() {
            return Some(known);
        }
        self.by_pid.invalidate(&pid);
        None
    }

    /// As it was read before; it may have ended or changed since.
    pub fn peek(&self, pid: u32) -> Option<Arc<Known>> {
        self.by_pid.get(&pid)
    }

    /// The process with this id, or of the thread with this id; read now unless known. `None`: it ended, or is none.
    pub fn get(&self, id: u32) -> Option<Arc<Known>> {
        self.cached(id).or_else(|| match self.read(id) {
            Err(Unread::ThreadOf(pid)) => self.cached(pid).or_else(|| self.read(pid).ok()),
            read => read.ok(),
        })
    }

    fn read(&self, pid: u32) -> Result<Arc<Known>, Unread> {
        let (read, directory) = self.read_now(pid)?;
        let mut process = read.process;
        process.parents = self.parents(read.parent);
        let known = Arc::new(Known {
            serial: self.serial.fetch_add(1, Ordering::Relaxed) + 1,
            directory,
            image: read.image,
            hash: OnceLock::new(),
            last_descriptor: AtomicU32::new(2),
            process: Arc::new(process),
        });
        self.by_pid.insert(pid, Arc::clone(&known));
        Ok(known)
    }

    fn read_now(&self, pid: u32) -> Result<(Read, Directory), Unread> {
        let directory = Directory::of_process(pid).map_err(|_| Unread::Gone)?;
        Ok((self.reader.read(pid, &directory)?, directory))
    }

    /// Nearest first. Ancestors are remembered: most processes have the same ones.
    fn parents(&self, mut pid: u32) -> Vec<Parent> {
        let mut parents = Vec::new();
        while pid != 0 && parents.len() < MOST_PARENTS {
            let Some(ancestor) = self.ancestor(pid) else {
                return parents;
            };
            parents.push(ancestor.parent.clone());
            pid = ancestor.next;
        }
        parents
    }

    fn ancestor(&self, pid: u32) -> Option<Arc<Ancestor>> {
        if let Some(ancestor) = self.ancestors.get(&pid).filter(|known| known.is_current()) {
            return Some(ancestor);
        }
        let (read, directory) = self.read_now(pid).ok()?;
        let next = read.parent;
        let ancestor = Arc::new(Ancestor {
            parent: as_parent(&read.process),
            next,
            // whoever it is a child of may end: it then has another parent
            next_directory: (next != 0).then(|| Directory::open(next).ok()).flatten(),
            directory,
            image: read.image,
        });
        self.ancestors.insert(pid, Arc::clone(&ancestor));
        Some(ancestor)
    }
}

/// A process as somebody's parent.
#[derive(Debug)]
struct Ancestor {
    parent: Parent,
    /// Its own parent; 0: none.
    next: u32,
    next_directory: Option<Directory>,
    directory: Directory,
    image: Image,
}

impl Ancestor {
    /// It runs, executes what it did, and has the parent that it had.
    fn is_current(&self) -> bool {
        self.directory.image() == Ok(self.image)
            && self.next_directory.as_ref().is_none_or(Directory::is_alive)
    }
}

fn as_parent(process: &Process) -> Parent {
    Parent {
        pid: process.pid,
        start_time: process.start_time,
        path: process
            .executable
            .path
            .clone()
            .unwrap_or_else(|| process.executable.claimed_path.clone()),
        comm: process.comm.clone(),
    }
}
