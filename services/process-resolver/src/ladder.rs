//! From a flow to its process, cheapest first.

use std::sync::{Arc, Mutex, PoisonError};

use daemon::{
    metrics::{Also, Metric},
    status::{Counter, Status},
};
use netlink::diag::{Diag, Found};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use verdict::{Cgroup, Flow};

use crate::{
    cgroups::Groups,
    holders::{Holders, Step},
    host::Host,
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
    /// Where the socket was made, as far as that is to be seen.
    pub cgroup: Option<Arc<Cgroup>>,
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
    /// The socket is there, its holder or its cgroup is to be found.
    Holder,
}

/// Shared by all callers.
#[derive(Debug)]
pub struct Ladder {
    /// Processes read before.
    pub processes: Processes,
    holders: Holders,
    groups: Groups,
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
    cgroup: Counter,
    owner: Counter,
    all: Counter,
    no_socket: Counter,
    no_process: Counter,
    tables: Counter,
    unknown_cgroups: Counter,
    processes: Counter,
    sockets: Counter,
    cgroups: Counter,
}

const ATTRIBUTIONS: Metric = Metric {
    name: "portmaster.attributions",
    unit: "{lookup}",
    description: "Questions whose a flow is, by the step that answered",
};
const CACHED: Metric = Metric {
    name: "portmaster.cache.entries",
    unit: "{entry}",
    description: "What is remembered now",
};

/// What is counted plainly, and is a metric's series as well.
const ALSO: [Also; 12] = [
    ("holders_cached", ATTRIBUTIONS, &[("portmaster.step", "cache")]),
    ("holders_near", ATTRIBUTIONS, &[("portmaster.step", "near")]),
    ("holders_newest", ATTRIBUTIONS, &[("portmaster.step", "newest")]),
    ("holders_recent", ATTRIBUTIONS, &[("portmaster.step", "recent")]),
    ("holders_cgroup", ATTRIBUTIONS, &[("portmaster.step", "cgroup")]),
    ("holders_owner", ATTRIBUTIONS, &[("portmaster.step", "owner")]),
    ("holders_all", ATTRIBUTIONS, &[("portmaster.step", "all")]),
    (
        "misses_no_socket",
        ATTRIBUTIONS,
        &[("portmaster.step", "no-socket")],
    ),
    (
        "misses_no_process",
        ATTRIBUTIONS,
        &[("portmaster.step", "no-process")],
    ),
    (
        "processes_cached_now",
        CACHED,
        &[("portmaster.cache", "processes")],
    ),
    ("sockets_cached_now", CACHED, &[("portmaster.cache", "sockets")]),
    ("cgroups_cached_now", CACHED, &[("portmaster.cache", "cgroups")]),
];

impl Counters {
    fn of(status: &Status) -> Self {
        status.show_also(&ALSO);
        Self {
            cached: status.counter("holders_cached"),
            near: status.counter("holders_near"),
            newest: status.counter("holders_newest"),
            recent: status.counter("holders_recent"),
            cgroup: status.counter("holders_cgroup"),
            owner: status.counter("holders_owner"),
            all: status.counter("holders_all"),
            no_socket: status.counter("misses_no_socket"),
            no_process: status.counter("misses_no_process"),
            tables: status.counter("sockets_from_tables"),
            unknown_cgroups: status.counter("cgroups_unknown"),
            processes: status.counter("processes_cached_now"),
            sockets: status.counter("sockets_cached_now"),
            cgroups: status.counter("cgroups_cached_now"),
        }
    }
}

impl Ladder {
    /// `processes`, `sockets`: how many are remembered at most. Searches end early once `stop` is cancelled.
    pub fn new(
        lookup: SocketLookup,
        processes: u64,
        sockets: u64,
        status: &Status,
        stop: CancellationToken,
    ) -> Self {
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
        let (host, own) = Host::open();
        if let Some(error) = own {
            let text = format!(
                "files are named as this service sees them, not as the host does: pid 1 cannot be looked at ({error}); allow CAP_SYS_PTRACE, or run outside of a mount namespace"
            );
            status.raise("no-host-view", text);
        }
        Self {
            processes: Processes::new(processes, host),
            holders: Holders::new(sockets, stop),
            groups: Groups::default(),
            tables: lookup != SocketLookup::SockDiag || diag.is_none(),
            diag,
            counters: Counters::of(status),
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
        let found = match socket.filter(|socket| socket.inode != 0) {
            Some(socket) => match self.holders.find_quickly(&self.processes, &socket) {
                Some(found) => Some(found),
                None => return Quick::Search(Search::Holder),
            },
            None => None,
        };
        let guess = found.as_ref().map(|(known, _)| &known.process.cgroup);
        if socket.is_some_and(|socket| self.is_new_group(socket.cgroup_id, guess)) {
            return Quick::Search(Search::Holder);
        }
        Quick::Done(self.answer(socket, found))
    }

    /// May take tens of milliseconds: not for the thread that answers others. `search`: what the quick look said.
    pub fn search(&self, flow: &Flow, uid: Option<u32>, search: Search) -> Answer {
        // asked again, since this one may have waited: for a socket that is closed, nobody is looked for
        let socket = self.socket(flow, uid).or_else(|| self.kernel(flow));
        if let Some(id) = socket.map(|socket| socket.cgroup_id).filter(|id| *id != 0)
            && !self.groups.learn(id)
        {
            self.counters.unknown_cgroups.add(1);
        }
        let open = socket.filter(|socket| socket.inode != 0);
        let found = open.and_then(|socket| {
            // whoever has this socket was not looked for yet
            let first =
                (search == Search::Socket).then(|| self.holders.find_quickly(&self.processes, &socket));
            let slowly = || self.holders.find_slowly(&self.processes, &self.groups, &socket);
            first.flatten().or_else(slowly)
        });
        // whoever closed it, or ended, while everybody was looked at had it: it is not the kernel's own
        let is_open =
            |socket: &Found| found.is_some() || socket.inode == 0 || self.is_there(flow, uid, socket);
        self.answer(socket.filter(is_open), found)
    }

    /// The flow is this socket's still.
    fn is_there(&self, flow: &Flow, uid: Option<u32>, socket: &Found) -> bool {
        let now = self.socket(flow, uid).or_else(|| self.kernel(flow));
        now.is_some_and(|now| now.inode == socket.inode)
    }

    /// The kernel answers on the socket that it is asked on, and the holder of this socket is found: that all is well.
    pub fn answers(&self, socket: &Found) -> bool {
        let kernel = self
            .diag
            .as_ref()
            .is_none_or(|diag| diag.lock().unwrap_or_else(PoisonError::into_inner).answers());
        let quickly = || self.holders.find_quickly(&self.processes, socket);
        let slowly = || self.holders.find_slowly(&self.processes, &self.groups, socket);
        kernel && quickly().or_else(slowly).is_some()
    }

    /// `guess`: the cgroup of the socket's holder.
    fn is_new_group(&self, id: u64, guess: Option<&Cgroup>) -> bool {
        if let Some(guess) = guess.filter(|_| self.groups.is_new(id)) {
            self.groups.guess(id, guess);
        }
        self.groups.is_new(id)
    }

    fn answer(&self, socket: Option<Found>, found: Option<(Arc<Known>, Step)>) -> Answer {
        let known = match (found, socket) {
            (Some((known, step)), _) => {
                self.count(step);
                Ok(known)
            }
            (None, Some(_)) => {
                self.counters.no_process.add(1);
                Err(Miss::NoProcess)
            }
            (None, None) => {
                self.counters.no_socket.add(1);
                Err(Miss::NoSocket)
            }
        };
        Answer {
            known,
            socket,
            cgroup: socket.and_then(|socket| self.groups.name(socket.cgroup_id)),
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
            Step::Cgroup => &self.counters.cgroup,
            Step::Owner => &self.counters.owner,
            Step::All => &self.counters.all,
        };
        counter.add(1);
        self.counters.processes.set(self.processes.count());
        self.counters.sockets.set(self.holders.count());
        self.counters.cgroups.set(self.groups.count());
    }
}

/// Another user's than the packet's.
fn foreign(found: &Found, uid: Option<u32>) -> bool {
    uid.is_some_and(|uid| uid != found.uid)
}
