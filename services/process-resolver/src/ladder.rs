//! From a flow to its process, cheapest first.

use std::sync::{Arc, Mutex, PoisonError};

use daemon::status::{Counter, Status};
use serde::Deserialize;
use verdict::Flow;

use crate::{
    diag::{Diag, Found},
    holders::{Holders, Step},
    known::{Known, Processes},
    tables,
};

/// Where sockets are looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketLookup {
    /// sock_diag, and the tables for what it does not know.
    #[default]
    Auto,
    /// sock_diag alone.
    SockDiag,
    /// `/proc/net` alone.
    Proc,
}

/// Why no process was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No socket has these addresses.
    NoSocket,
    /// No process holds the socket.
    NoProcess,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The process.
    pub known: Result<Arc<Known>, Miss>,
    /// The socket, where it was found.
    pub socket: Option<Found>,
}

/// What a quick look gave.
#[derive(Clone, Debug)]
pub enum Quick {
    /// Found, or certainly not to be found.
    Done(Answer),
    /// The socket is there; its holder must be searched.
    Search(Found),
}

/// Shared by all callers.
#[derive(Debug)]
pub struct Ladder {
    /// Processes read before.
    pub processes: Processes,
    holders: Holders,
    diag: Option<Mutex<Diag>>,
    tables: bool,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    cached: Counter,
    near: Counter,
    newest: Counter,
    recent: Counter,
    all: Counter,
    no_socket: Counter,
    no_process: Counter,
    tables: Counter,
    processes: Counter,
    sockets: Counter,
}

impl Ladder {
    /// `processes`, `sockets`: how many are remembered at most.
    pub fn new(lookup: SocketLookup, processes: u64, sockets: u64, status: &Status) -> Self {
        let diag = (lookup != SocketLookup::Proc)
            .then(Diag::open)
            .and_then(|opened| match opened {
                Ok(diag) => Some(Mutex::new(diag)),
                Err(error) => {
                    let text = format!(
                        "sockets are looked up in /proc/net, slowly: {:#}",
                        anyhow::Error::new(error)
                    );
                    status.raise("no-sock-diag", text);
                    None
                }
            });
        Self {
            processes: Processes::new(processes),
            holders: Holders::new(sockets),
            tables: lookup != SocketLookup::SockDiag || diag.is_none(),
            diag,
            counters: Counters {
                cached: status.counter("holders_cached"),
                near: status.counter("holders_near"),
                newest: status.counter("holders_newest"),
                recent: status.counter("holders_recent"),
                all: status.counter("holders_all"),
                no_socket: status.counter("misses_no_socket"),
                no_process: status.counter("misses_no_process"),
                tables: status.counter("sockets_from_tables"),
                processes: status.counter("processes_cached_now"),
                sockets: status.counter("sockets_cached_now"),
            },
        }
    }

    /// Takes microseconds.
    pub fn quick(&self, flow: &Flow, uid: Option<u32>) -> Quick {
        let Some(socket) = self.socket(flow, uid) else {
            self.counters.no_socket.add(1);
            return Quick::Done(Answer {
                known: Err(Miss::NoSocket),
                socket: None,
            });
        };
        if socket.inode == 0 {
            self.counters.no_process.add(1);
            return Quick::Done(Answer {
                known: Err(Miss::NoProcess),
                socket: Some(socket),
            });
        }
        match self
            .holders
            .find_quickly(&self.processes, socket.inode, Some(socket.uid))
        {
            Some((known, step)) => {
                self.count(step);
                Quick::Done(Answer {
                    known: Ok(known),
                    socket: Some(socket),
                })
            }
            None => Quick::Search(socket),
        }
    }

    /// May take tens of milliseconds: not for the thread that answers others.
    pub fn search(&self, socket: Found) -> Answer {
        let known = match self.holders.find_slowly(&self.processes, socket.inode) {
            Some((known, step)) => {
                self.count(step);
                Ok(known)
            }
            None => {
                self.counters.no_process.add(1);
                Err(Miss::NoProcess)
            }
        };
        Answer {
            known,
            socket: Some(socket),
        }
    }

    fn socket(&self, flow: &Flow, uid: Option<u32>) -> Option<Found> {
        let asked = self
            .diag
            .as_ref()
            .and_then(|diag| diag.lock().unwrap_or_else(PoisonError::into_inner).find(flow));
        let foreign = |found: &Found| uid.is_some_and(|uid| uid != found.uid);
        match asked {
            Some(found) if !foreign(&found) => asked,
            // the port is shared: the kernel names who would receive, and another user sent
            Some(_) => self.table(flow, uid).filter(|found| !foreign(found)).or(asked),
            None => self.table(flow, uid),
        }
    }

    fn table(&self, flow: &Flow, uid: Option<u32>) -> Option<Found> {
        let found = self.tables.then(|| tables::find(flow, uid)).flatten()?;
        self.counters.tables.add(1);
        Some(found)
    }

    fn count(&self, step: Step) {
        let counter = match step {
            Step::Cached => &self.counters.cached,
            Step::Near => &self.counters.near,
            Step::Newest => &self.counters.newest,
            Step::Recent => &self.counters.recent,
            Step::All => &self.counters.all,
        };
        counter.add(1);
        self.counters.processes.set(self.processes.count());
        self.counters.sockets.set(self.holders.count());
    }
}
