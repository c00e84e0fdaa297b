//! Which process holds a socket: from its inode to a pid, cheapest first.
//!
//! | step | looks at | costs about |
//! |---|---|---|
//! | cached | the descriptor where this socket was found before | 1 µs |
//! | near | descriptors around the latest socket of processes that asked lately | 2–40 µs |
//! | newest | processes that began lately and held no socket yet | 10–300 µs |
//! | recent | all descriptors of processes that asked lately and have few | 10–500 µs |
//! | cgroup | all descriptors of the processes in the cgroup where the socket was made | 0.2 ms for a unit of one process |
//! | recent | all descriptors of all processes that asked lately | some ms |
//! | owner | all descriptors of all processes of the socket's user | some ms |
//! | all | all descriptors of everybody else | 30 ms and more |
//!
//! The order is only a guess at who it is; the inode decides. A process that has moved, changed its user or got the socket
//! from another is found by a later step. Of the process that holds it, other sockets are remembered: of many connections
//! that begin at once, the first pays for all. Where several processes hold a socket (inherited over fork, passed on), the
//! first that is found is named; pid 1, which holds sockets for others, only where nobody else does.

mod descriptors;
mod recent;
mod search;
mod young;

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use moka::sync::Cache;
use netlink::diag::Found;
use tokio_util::sync::CancellationToken;

use crate::{
    cgroups::Groups,
    directory::Directory,
    known::{Known, Processes},
};
use recent::Recent;
use young::{YOUNG, Young};

/// Of the processes that asked lately, how many are looked at more closely.
const CLOSELY: usize = 4;
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

/// By which step a holder was found: see the module's table.
#[expect(missing_docs, reason = "a table says more")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Cached,
    Near,
    Newest,
    Recent,
    Cgroup,
    Owner,
    All,
}

/// A step and how it is done.
type Look<'a> = (Step, &'a dyn Fn() -> Option<Arc<Known>>);

/// Bounded caches over `/proc`.
#[derive(Debug)]
pub struct Holders {
    places: Cache<u64, Place>,
    recent: Recent,
    young: Mutex<Young>,
    stop: CancellationToken,
}

impl Holders {
    /// Remembers at most `capacity` sockets. Searches end early once `stop` is cancelled.
    pub fn new(capacity: u64, stop: CancellationToken) -> Self {
        Self {
            places: Cache::new(capacity),
            recent: Recent::default(),
            young: Mutex::default(),
            stop,
        }
    }

    /// Sockets remembered.
    pub fn count(&self) -> u64 {
        self.places.entry_count()
    }

    /// Without looking at more than a few descriptors.
    pub fn find_quickly(&self, processes: &Processes, socket: &Found) -> Option<(Arc<Known>, Step)> {
        // once beyond the latest few, these are looked at closely
        let steps: [Look<'_>; 6] = [
            (Step::Cached, &|| self.cached(processes, socket)),
            (Step::Near, &|| self.near(processes, socket, CLOSELY, 0)),
            (Step::Newest, &|| self.newest(processes, socket, true)),
            (Step::Near, &|| self.near(processes, socket, usize::MAX, CLOSELY)),
            (Step::Newest, &|| self.newest(processes, socket, false)),
            (Step::Recent, &|| self.few(processes, socket)),
        ];
        self.first(processes, &steps)
    }

    /// Looks everywhere, if need be. Not again where [`Self::find_quickly`] looked, but for what other searches came across
    /// meanwhile.
    pub fn find_slowly(
        &self,
        processes: &Processes,
        groups: &Groups,
        socket: &Found,
    ) -> Option<(Arc<Known>, Step)> {
        self.first(processes, &[(Step::Cached, &|| self.cached(processes, socket))])
            .or_else(|| {
                let (pid, descriptor, step) = self.search(groups, socket)?;
                let known = self.found(processes.get(pid)?, socket, descriptor);
                self.touch(processes, &known);
                Some((known, step))
            })
    }

    fn first(&self, processes: &Processes, steps: &[Look<'_>]) -> Option<(Arc<Known>, Step)> {
        let found = steps.iter().find_map(|(step, look)| Some((look()?, *step)))?;
        self.touch(processes, &found.0);
        Some(found)
    }

    fn cached(&self, processes: &Processes, socket: &Found) -> Option<Arc<Known>> {
        let place = self.places.get(&socket.inode)?;
        let known = processes.get(place.pid)?;
        if descriptors::holds(&known.directory, place.descriptor, socket.inode) {
            return Some(known);
        }
        self.places.invalidate(&socket.inode);
        None
    }

    /// At most so many of the processes that asked lately, and so many of them closely.
    fn near(&self, processes: &Processes, socket: &Found, most: usize, closely: usize) -> Option<Arc<Known>> {
        let recent: Vec<_> = self.recently(processes, socket, most).collect();
        let glance = |known: &Arc<Known>| {
            let next = known.last()..=known.last().saturating_add(1);
            descriptors::find(&known.directory, next, socket.inode)
        };
        let closer =
            |known: &Arc<Known>| descriptors::find(&known.directory, around(known.last()), socket.inode);
        let (known, descriptor) = recent
            .iter()
            .find_map(|known| Some((known, glance(known)?)))
            .or_else(|| {
                let latest = &mut recent.iter().take(closely);
                latest.find_map(|known| Some((known, closer(known)?)))
            })?;
        // the descriptor is its own, whatever it executes by now
        let known = processes.get(known.process.pid)?;
        Some(self.found(known, socket, descriptor))
    }

    /// Searches through processes that asked lately, unless they have very many descriptors.
    fn few(&self, processes: &Processes, socket: &Found) -> Option<Arc<Known>> {
        self.recently(processes, socket, usize::MAX)
            .take(CLOSELY)
            .filter(|known| descriptors::count(&known.directory).is_some_and(|count| count <= FEW))
            .find_map(|known| {
                let descriptor = self.search_one(&known.directory, known.process.pid, socket)?;
                let known = processes.get(known.process.pid)?;
                Some(self.found(known, socket, descriptor))
            })
    }

    fn recently<'a>(
        &self,
        processes: &'a Processes,
        socket: &'a Found,
        most: usize,
    ) -> impl Iterator<Item = Arc<Known>> + use<'a> {
        let pids = self.recent.pids().into_iter().take(most);
        // a guess: a process may have changed its user since it was read, and root may be anybody
        let may_be = |known: &Arc<Known>| [socket.uid, 0].contains(&known.process.uid);
        pids.filter_map(|pid| processes.peek(pid)).filter(may_be)
    }

    /// `only_new`: that began since the last look.
    fn newest(&self, processes: &Processes, socket: &Found, only_new: bool) -> Option<Arc<Known>> {
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
            found = young_holds(&directory, socket).map(|descriptor| (*pid, descriptor));
            found.is_none()
        });
        drop(young);
        let (pid, descriptor) = found?;
        Some(self.found(processes.get(pid)?, socket, descriptor))
    }

    fn found(&self, known: Arc<Known>, socket: &Found, descriptor: u32) -> Arc<Known> {
        known.last_descriptor.store(descriptor, Ordering::Relaxed);
        let pid = known.process.pid;
        self.places.insert(socket.inode, Place { pid, descriptor });
        known
    }

    fn touch(&self, processes: &Processes, known: &Known) {
        if known.process.pid == 1 {
            return;
        }
        self.recent.touch(known.process.pid, |pid| {
            processes
                .peek(pid)
                .is_some_and(|known| known.directory.is_alive())
        });
    }
}

/// The descriptors behind the latest, and the one before.
fn around(last: u32) -> impl Iterator<Item = u32> {
    (last.saturating_add(2)..=last.saturating_add(NEAR)).chain(last.checked_sub(1))
}

/// Looks at the first descriptors of a young process, as far as there are any.
fn young_holds(directory: &Directory, socket: &Found) -> Option<u32> {
    // a process that is not dumpable shows as root's
    if ![socket.uid, 0].contains(&directory.owner()?) {
        return None;
    }
    descriptors::find_in_row(directory, FIRST_DESCRIPTORS, socket.inode)
}
