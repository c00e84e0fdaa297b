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
    /// It must be searched for.
    Search(Search),
}

/// What a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The kernel's quick answer has no such socket; the tables are to be read. Mostly it is closed already.
    Socket,
    /// The socket is there, its holder is to be found.
    Holder,
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
        let asked = self.kernel(flow);
        let socket = match asked {
            Some(found) if !foreign(&found, uid) => Some(found),
            // the tables grow with the host: what they may know beside the kernel is not worth everybody's time
            _ if self.tables && self.diag.is_some() && flow.protocol.has_ports() => {
                return Quick::Search(Search::Socket);
            }
            _ => self.socket(flow, uid),
        };
        match socket {
            Some(socket) if socket.inode != 0 => self
                .holder(socket)
                .map_or(Quick::Search(Search::Holder), Quick::Done),
            socket => Quick::Done(self.nobody(socket)),
        }
    }

    /// May take tens of milliseconds: not for the thread that answers others.
    pub fn search(&self, flow: &Flow, uid: Option<u32>) -> Answer {
        // asked again, since this one may have waited: for a socket that is closed, nobody is looked for
        let Some(socket) = self.socket(flow, uid).filter(|socket| socket.inode != 0) else {
            return self.nobody(self.kernel(flow));
        };
        if let Some(answer) = self.holder(socket) {
            return answer;
        }
        match self.holders.find_slowly(&self.processes, socket.inode) {
            Some((known, step)) => {
                self.count(step);
                Answer {
                    known: Ok(known),
                    socket: Some(socket),
                }
            }
            None => self.nobody(Some(socket)),
        }
    }

    fn holder(&self, socket: Found) -> Option<Answer> {
        let (known, step) = self
            .holders
            .find_quickly(&self.processes, socket.inode, Some(socket.uid))?;
        self.count(step);
        Some(Answer {
            known: Ok(known),
            socket: Some(socket),
        })
    }

    fn nobody(&self, socket: Option<Found>) -> Answer {
        let miss = if socket.is_some() {
            Miss::NoProcess
        } else {
            Miss::NoSocket
        };
        let counter = if socket.is_some() {
            &self.counters.no_process
        } else {
            &self.counters.no_socket
        };
        counter.add(1);
        Answer {
            known: Err(miss),
            socket,
        }
    }

    fn kernel(&self, flow: &Flow) -> Option<Found> {
        let diag = self.diag.as_ref()?;
        diag.lock().unwrap_or_else(PoisonError::into_inner).find(flow)
    }

    fn socket(&self, flow: &Flow, uid: Option<u32>) -> Option<Found> {
        match self.kernel(flow) {
            Some(found) if !foreign(&found, uid) => Some(found),
            // the port is shared: the kernel names who would receive, and another user sent
            Some(found) => self
                .table(flow, uid)
                .filter(|row| !foreign(row, uid))
                .or(Some(found)),
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

/// Another user's than the packet's.
fn foreign(found: &Found, uid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid != found.uid)
}
