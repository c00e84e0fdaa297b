//! Which process holds a socket: from its inode to a pid, cheapest first.
//!
//! | step | looks at | costs about |
//! |---|---|---|
//! | cached | the descriptor where this socket was found before | 1 µs |
//! | near | descriptors around the latest socket of processes that asked lately | 2–40 µs |
//! | newest | processes that began lately and held no socket yet | 10–300 µs |
//! | recent | all descriptors of processes that asked lately and have few | 10–500 µs |
//! | all | all descriptors of all processes, youngest first | 30 ms and more |
//!
//! The order is only a guess at who it is; the inode decides. A process that is searched through has all its sockets
//! remembered: of many connections that begin at once, the first pays for all. Where several processes hold a socket
//! (inherited over fork, passed on), the first that is found is named; pid 1, which holds sockets for others, only where
//! nobody else does.

use std::{
    collections::VecDeque,
    ffi::CString,
    fs,
    os::fd::BorrowedFd,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use moka::sync::Cache;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, readlinkat, statat};

use crate::{
    details::Directory,
    known::{Known, Processes},
    young::{YOUNG, Young},
};

/// Processes that asked lately, in order.
const RECENT: usize = 32;
/// Of these, how many are looked at more closely.
const CLOSELY: usize = 4;
/// Closed ones among them after which no more are expected.
const GAPS: u32 = 2;
/// Descriptors of a young process to try.
const FIRST_DESCRIPTORS: std::ops::Range<u32> = 3..12;
/// Descriptors beyond the latest to try, of those that are looked at closely.
const NEAR: u32 = 6;
/// Whoever has more descriptors than this is not searched through while others wait.
const FEW: i64 = 512;

#[derive(Clone, Copy, Debug)]
struct Place {
    pid: u32,
    descriptor: u32,
}

/// By which step a holder was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// See the module's table.
    Cached,
    /// See the module's table.
    Near,
    /// See the module's table.
    Newest,
    /// See the module's table.
    Recent,
    /// See the module's table.
    All,
}

/// Bounded caches over `/proc`.
#[derive(Debug)]
pub struct Holders {
    places: Cache<u64, Place>,
    recent: Mutex<VecDeque<u32>>,
    young: Mutex<Young>,
}

impl Holders {
    /// Remembers at most `capacity` sockets.
    pub fn new(capacity: u64) -> Self {
        Self {
            places: Cache::new(capacity),
            recent: Mutex::default(),
            young: Mutex::default(),
        }
    }

    /// Sockets remembered.
    pub fn count(&self) -> u64 {
        self.places.entry_count()
    }

    /// Without looking at more than a few descriptors.
    pub fn find_quickly(
        &self,
        processes: &Processes,
        inode: u64,
        uid: Option<u32>,
    ) -> Option<(Arc<Known>, Step)> {
        let link = format!("socket:[{inode}]");
        let step = |step| move |known| (known, step);
        let found = self.cached(processes, inode, &link).map(step(Step::Cached));
        let found = found.or_else(|| {
            self.near(processes, inode, &link, uid, CLOSELY)
                .map(step(Step::Near))
        });
        let found = found.or_else(|| {
            self.newest(processes, inode, &link, uid, true)
                .map(step(Step::Newest))
        });
        let found = found.or_else(|| {
            self.near(processes, inode, &link, uid, RECENT)
                .map(step(Step::Near))
        });
        let found = found.or_else(|| {
            self.newest(processes, inode, &link, uid, false)
                .map(step(Step::Newest))
        });
        let found = found.or_else(|| self.few(processes, inode, uid).map(step(Step::Recent)))?;
        self.touch(processes, found.0.process.pid);
        Some(found)
    }

    /// Looks everywhere, if need be.
    pub fn find_slowly(&self, processes: &Processes, inode: u64) -> Option<(Arc<Known>, Step)> {
        let link = format!("socket:[{inode}]");
        // an earlier search may have come across it
        let cached = self
            .cached(processes, inode, &link)
            .map(|known| (known, Step::Cached));
        let recent = || {
            self.recent().into_iter().find_map(|pid| {
                let known = processes.get(pid)?;
                let descriptor = self.remember_all(&known, inode)?;
                Some((self.found(known, inode, descriptor), Step::Recent))
            })
        };
        let found = cached.or_else(recent).or_else(|| {
            let everyone = youngest_first();
            let found = everyone
                .into_iter()
                .find_map(|pid| self.scan(processes, pid, inode, &link));
            found
                .or_else(|| self.scan(processes, 1, inode, &link))
                .map(|known| (known, Step::All))
        })?;
        self.touch(processes, found.0.process.pid);
        Some(found)
    }

    fn cached(&self, processes: &Processes, inode: u64, link: &str) -> Option<Arc<Known>> {
        let place = self.places.get(&inode)?;
        let known = processes.get(place.pid)?;
        if holds(known.directory.as_fd(), place.descriptor, link) {
            return Some(known);
        }
        self.places.invalidate(&inode);
        None
    }

    /// At most so many of the processes that asked lately. Once beyond the latest few, these are looked at closely.
    fn near(
        &self,
        processes: &Processes,
        inode: u64,
        link: &str,
        uid: Option<u32>,
        most: usize,
    ) -> Option<Arc<Known>> {
        let closely = if most > CLOSELY { CLOSELY } else { 0 };
        let recent: Vec<_> = self
            .recent()
            .into_iter()
            .take(most)
            .filter_map(|pid| processes.peek(pid))
            .filter(|known| may_be_of(known, uid))
            .collect();
        let glance = |known: &Arc<Known>| find(known, known.last()..=known.last().saturating_add(1), link);
        let closer = |known: &Arc<Known>| find(known, around(known.last()), link);
        let (known, descriptor) = recent
            .iter()
            .find_map(|known| Some((known, glance(known)?)))
            .or_else(|| {
                recent
                    .iter()
                    .take(closely)
                    .find_map(|known| Some((known, closer(known)?)))
            })?;
        // the descriptor is its own, whatever it executes by now
        let known = processes.get(known.process.pid)?;
        Some(self.found(known, inode, descriptor))
    }

    /// Searches through processes that asked lately, unless they have very many descriptors.
    fn few(&self, processes: &Processes, inode: u64, uid: Option<u32>) -> Option<Arc<Known>> {
        let recent = self.recent().into_iter().filter_map(|pid| processes.peek(pid));
        recent
            .filter(|known| may_be_of(known, uid))
            .take(CLOSELY)
            .find_map(|known| {
                let directory = known.directory.as_fd();
                // since Linux 6.2 the size of this directory is the number of descriptors
                if statat(directory, "fd", AtFlags::empty()).ok()?.st_size > FEW {
                    return None;
                }
                let known = processes.get(known.process.pid)?;
                let descriptor = self.remember_all(&known, inode)?;
                Some(self.found(known, inode, descriptor))
            })
    }

    /// Every socket of a process; gives the descriptor of the one that is wanted.
    fn remember_all(&self, known: &Known, wanted: u64) -> Option<u32> {
        let directory = known.directory.as_fd();
        let sockets = descriptors(directory)?
            .into_iter()
            .filter_map(|descriptor| Some((socket(directory, descriptor)?, descriptor)));
        let mut found = None;
        for (inode, descriptor) in sockets {
            self.places.insert(
                inode,
                Place {
                    pid: known.process.pid,
                    descriptor,
                },
            );
            if inode == wanted {
                found = Some(descriptor);
            }
        }
        found
    }

    /// `only_new`: that began since the last look.
    fn newest(
        &self,
        processes: &Processes,
        inode: u64,
        link: &str,
        uid: Option<u32>,
        only_new: bool,
    ) -> Option<Arc<Known>> {
        let mut young = self.young.lock().unwrap_or_else(PoisonError::into_inner);
        let new = if only_new { young.look() } else { YOUNG };
        let (mut found, mut at) = (None, 0);
        young.pids.retain(|pid| {
            at += 1;
            if found.is_some() || at > new {
                return true;
            }
            // it ended
            let Ok(directory) = Directory::open(*pid) else {
                return false;
            };
            found = young_holds(&directory, link, uid).map(|descriptor| (*pid, descriptor));
            found.is_none()
        });
        drop(young);
        let (pid, descriptor) = found?;
        let known = processes.get(pid)?;
        Some(self.found(known, inode, descriptor))
    }

    /// All descriptors of one process, the highest first: that is where a new one is, as a rule.
    fn scan(&self, processes: &Processes, pid: u32, inode: u64, link: &str) -> Option<Arc<Known>> {
        let directory = Directory::open(pid).ok()?;
        let mut descriptors = descriptors(directory.as_fd())?;
        descriptors.sort_unstable_by(|one, other| other.cmp(one));
        let descriptor = descriptors
            .into_iter()
            .find(|descriptor| holds(directory.as_fd(), *descriptor, link))?;
        let known = processes.get(pid)?;
        Some(self.found(known, inode, descriptor))
    }

    fn found(&self, known: Arc<Known>, inode: u64, descriptor: u32) -> Arc<Known> {
        known.last_descriptor.store(descriptor, Ordering::Relaxed);
        self.places.insert(
            inode,
            Place {
                pid: known.process.pid,
                descriptor,
            },
        );
        known
    }

    fn recent(&self) -> Vec<u32> {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }

    fn touch(&self, processes: &Processes, pid: u32) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.front() == Some(&pid) || pid == 1 {
            return;
        }
        // short-lived ones would be asked for long after their end
        let alive = |pid| {
            processes
                .peek(pid)
                .is_some_and(|known| known.directory.is_alive())
        };
        let mut checked = 0;
        recent.retain(|other| {
            checked += 1;
            checked > CLOSELY || alive(*other)
        });
        recent.retain(|other| *other != pid);
        recent.push_front(pid);
        recent.truncate(RECENT);
    }
}

/// A guess by owner: a process may have changed its user since it was read, and root may be anybody.
fn may_be_of(known: &Known, uid: Option<u32>) -> bool {
    uid.is_none_or(|uid| known.process.uid == uid || known.process.uid == 0)
}

/// The descriptors behind the latest, and the one before.
fn around(last: u32) -> impl Iterator<Item = u32> {
    (last.saturating_add(2)..=last.saturating_add(NEAR)).chain(last.checked_sub(1))
}

/// Looks at the first descriptors of a young process, as far as there are any.
fn young_holds(directory: &Directory, link: &str, uid: Option<u32>) -> Option<u32> {
    let owner = statat(directory.as_fd(), "", AtFlags::EMPTY_PATH).ok()?.st_uid;
    // a process that is not dumpable shows as root's
    if uid.is_some_and(|uid| owner != uid && owner != 0) {
        return None;
    }
    let mut gaps = 0;
    for descriptor in FIRST_DESCRIPTORS {
        match target(directory.as_fd(), descriptor) {
            Some(target) if target.as_bytes() == link.as_bytes() => return Some(descriptor),
            Some(_) => {}
            None => gaps += 1,
        }
        if gaps > GAPS {
            return None;
        }
    }
    None
}

fn find(known: &Known, mut descriptors: impl Iterator<Item = u32>, link: &str) -> Option<u32> {
    descriptors.find(|descriptor| holds(known.directory.as_fd(), *descriptor, link))
}

/// Inode of the socket behind a descriptor.
fn socket(directory: BorrowedFd<'_>, descriptor: u32) -> Option<u64> {
    let target = target(directory, descriptor)?;
    target
        .to_str()
        .ok()?
        .strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

fn holds(directory: BorrowedFd<'_>, descriptor: u32, link: &str) -> bool {
    target(directory, descriptor).is_some_and(|target| target.as_bytes() == link.as_bytes())
}

/// What a descriptor is, as the kernel writes it: `socket:[4711]`.
fn target(directory: BorrowedFd<'_>, descriptor: u32) -> Option<CString> {
    readlinkat(directory, format!("fd/{descriptor}"), Vec::with_capacity(64)).ok()
}

fn descriptors(directory: BorrowedFd<'_>) -> Option<Vec<u32>> {
    let fd = openat(
        directory,
        "fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let entries = Dir::new(fd).ok()?;
    Some(
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok())
            .collect(),
    )
}

/// By start time, since pids wrap. Pid 1 is not among them.
fn youngest_first() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != 1);
    let mut aged: Vec<(u64, u32)> = pids
        .filter_map(|pid| Some((Directory::open(pid).ok()?.stat()?.start_time, pid)))
        .collect();
    aged.sort_unstable_by(|one, other| other.cmp(one));
    aged.into_iter().map(|(_, pid)| pid).collect()
}
