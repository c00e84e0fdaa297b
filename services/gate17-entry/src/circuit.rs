//! A way through nodes: TLS inside TLS. What stands of it, and what went through; [`build`] makes it.

mod build;
mod carrier;
mod failing;
mod heard;
mod leg;
mod reach;
mod shown;
mod streams;
mod watch;

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use gate17_proto::{
    exit::{ExitPolicy, Transport},
    map::{Node, NodeId},
    padding::Grid,
};
use tokio_util::sync::CancellationToken;

use self::leg::Leg;
use crate::{health::Nodes, near::Reached};

pub use self::{
    build::{BuildError, build},
    shown::Shown,
    streams::{Fetched, Way},
};

/// A circuit that was built.
#[derive(Debug)]
pub struct Circuit {
    /// Unique while the service runs.
    pub id: u64,
    /// First to last.
    pub hops: Vec<NodeId>,
    /// The last node.
    pub exit: Node,
    /// Its rules, read once: each new stream asks them.
    rules: ExitPolicy,
    /// When.
    pub built: SystemTime,
    /// The same, for its age.
    pub since: Instant,
    /// How long building took.
    pub building: Duration,
    /// Streams and octets.
    pub carried: Carried,
    /// Its connections, first to last; at least one.
    legs: Arc<[Leg]>,
    nodes: Nodes,
    reached: Reached,
    draining: AtomicBool,
    problem: Arc<OnceLock<String>>,
    closed: CancellationToken,
}

/// What went through a circuit.
#[derive(Debug, Default)]
pub struct Carried {
    /// Open streams.
    pub now: AtomicU64,
    /// All streams.
    pub streams: AtomicU64,
    /// Octets from programs.
    pub sent: AtomicU64,
    /// Octets to programs.
    pub received: AtomicU64,
}

/// A stream's: its circuit lives as long.
#[derive(Debug)]
pub struct Place(Arc<Circuit>);

impl Place {
    /// Whose it is.
    pub fn circuit(&self) -> &Circuit {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.carried.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is the same for all circuits.
#[derive(Clone, Debug)]
pub struct Means {
    /// To every node.
    pub shown: Shown,
    /// How they do.
    pub nodes: Nodes,
    /// How long exits need to reach others.
    pub reached: Reached,
    /// What is written to them, and by them, is filled up to multiples of it.
    pub padding: Option<Grid>,
}

impl Circuit {
    /// Whether its exit carries there.
    pub fn carries(&self, (address, port, transport): (IpAddr, u16, Transport)) -> bool {
        self.rules.check(address, port, transport).is_ok()
    }

    /// The nodes' ids, first to last.
    pub fn hop_ids(&self) -> Vec<String> {
        self.hops.iter().map(|hop| hop.0.clone()).collect()
    }

    /// Takes new streams.
    pub fn is_open(&self) -> bool {
        let last = self.legs.last();
        self.lives()
            && !self.draining.load(Ordering::Relaxed)
            && last.is_some_and(|leg| leg.refuses().is_none())
    }

    /// One of its nodes said that it is to stop, or is avoided by now: another circuit is to take what comes.
    pub fn is_leaving(&self, now: Instant) -> bool {
        !self.leaving(now).is_empty()
    }

    /// Those nodes.
    pub fn leaving(&self, now: Instant) -> Vec<NodeId> {
        let is = |leg: &&Leg| leg.refuses().is_some() || self.nodes.is_avoided(&leg.node, now);
        self.legs.iter().filter(is).map(|leg| leg.node.clone()).collect()
    }

    /// Its streams go on.
    pub fn lives(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Takes no new streams from now on; those that are there end by themselves.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Of the whole path, where it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.legs.last()?.round_trip()
    }

    /// Measures the whole path.
    pub async fn ping(&self) -> Option<Duration> {
        self.legs.last()?.ping().await
    }

    /// Why it broke; empty where it did not.
    pub fn problem(&self) -> String {
        self.problem.get().cloned().unwrap_or_default()
    }

    /// Ends it, and its streams.
    pub fn close(&self) {
        self.closed.cancel();
    }

    fn place(self: &Arc<Self>) -> Place {
        self.carried.now.fetch_add(1, Ordering::Relaxed);
        self.carried.streams.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
