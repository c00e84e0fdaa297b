//! What the judge wants done.

use std::{sync::Arc, time::SystemTime};

use verdict::{Decision, Flow, Scope, policy::TunnelOptions};

use super::{Attribution, Now, Through, Waiting};
use crate::conntrack::Counter;

/// A packet's mark: it is sent on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictFor {
    /// The packet.
    pub packet: Waiting,
    /// Its mark, on the wire.
    pub mark: u32,
}

/// Whose is this flow?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the answer.
    pub request_id: u64,
    /// The flow.
    pub flow: Flow,
    /// Owner of the sending socket, where known.
    pub uid: Option<u32>,
    /// A profile matches by executables' hashes.
    pub hash: bool,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is new.
    Decided,
    /// The policy changed.
    Redecided,
    /// It is over.
    Ended,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// From this host.
    pub sent: Counter,
    /// To this host.
    pub received: Counter,
    /// From the first packet until conntrack forgot it.
    pub duration: std::time::Duration,
}

/// A connection, as events tell of it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique while the host is up.
    pub id: u64,
    /// Its ends.
    pub flow: Flow,
    /// Where the other end is.
    pub scope: Scope,
    /// When its first packet came.
    pub started: SystemTime,
    /// Whose it is.
    pub who: Arc<Attribution>,
    /// The name that it asked for.
    pub domain: Option<Arc<str>>,
    /// Its fate.
    pub decision: Decision,
    /// At its end.
    pub totals: Option<Totals>,
    /// How it travels through Gate17, or why it does not.
    pub through: Option<Arc<Through>>,
}

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// When.
    pub time: SystemTime,
    /// Of which connection.
    pub connection: Connection,
}

/// What is to be carried, and how: by the one policy that decided it.
#[derive(Clone, Debug)]
pub struct Carrying {
    /// The connection.
    pub connection: Connection,
    /// Its profile's.
    pub options: TunnelOptions,
}

/// What the entry of Gate17 is to hear.
#[derive(Clone, Debug)]
pub enum ToTunnel {
    /// Let the far end of this one answer.
    Open {
        /// Names the answer.
        request_id: u64,
        /// The connection.
        carrying: Box<Carrying>,
    },
    /// Nobody waits for this answer any more.
    Withdrawn(u64),
}

/// Collected by the judge, carried out by the plane. Kept between packets, so that nothing is allocated for them.
#[derive(Debug, Default)]
pub struct Effects {
    /// Send these on, first of all.
    pub verdicts: Vec<VerdictFor>,
    /// Ask these.
    pub questions: Vec<Question>,
    /// Take these flows' marks away.
    pub resets: Vec<Flow>,
    /// Forget that the kernel has these: their next packet begins them anew.
    pub anew: Vec<Flow>,
    /// Say this to the entry of Gate17.
    pub tunnel: Vec<ToTunnel>,
    /// Tell these.
    pub events: Vec<Event>,
}

impl Effects {
    pub(super) fn verdict(&mut self, packet: Waiting, mark: u32) {
        self.verdicts.push(VerdictFor { packet, mark });
    }

    pub(super) fn tell(&mut self, kind: EventKind, now: Now, connection: Connection) {
        self.events.push(Event {
            kind,
            time: now.wall,
            connection,
        });
    }
}
