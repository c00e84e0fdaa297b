//! Bounds, and what the judge is told and counts.

use std::time::{Duration, SystemTime};

use verdict::{
    packet::Hook,
    policy::model::{Clocks, SinceBoot},
};

use super::Waiting;

/// Bounds on what the judge keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a flow waits for its process before it is decided as unknown.
    pub attribution_deadline: Duration,
    /// How much longer it waits while the resolver is being restarted.
    pub resolver_restart: Duration,
    /// Flows that may wait at once; beyond it they are dropped, and counted.
    pub pending_flows: usize,
    /// Questions to the resolver that are out at once.
    pub questions: usize,
    /// Packets that may wait with one flow.
    pub pending_packets: usize,
    /// Decided flows that are remembered.
    pub tracked_flows: usize,
    /// How long a refused flow is remembered, so that its retransmissions are one event.
    pub refusal_memory: Duration,
    /// How long a SYN waits for the far end of the tunnel.
    pub tunnel_deadline: Duration,
    /// How long a flow may pass while its name is not known.
    pub name_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attribution_deadline: Duration::from_millis(500),
            resolver_restart: Duration::from_secs(2),
            pending_flows: 16_384,
            questions: 256,
            pending_packets: 64,
            tracked_flows: 262_144,
            refusal_memory: Duration::from_secs(10),
            tunnel_deadline: Duration::from_secs(30),
            name_deadline: Duration::from_secs(10),
        }
    }
}

/// A connection whose first packet was let through so long ago is in conntrack, if it ever will be.
pub(super) const CONFIRMED_BY_THEN: Duration = Duration::from_secs(60);

/// A SYN that was let go so long ago and comes again is one that the kernel dropped: it is sent again after a second.
pub(super) const DELIVERED_BY_THEN: Duration = Duration::from_millis(500);
/// A datagram of a flow that was let go so long ago would not be asked for if its flow had got anywhere.
pub(super) const UNDELIVERED_DATAGRAMS_BY_THEN: Duration = Duration::from_secs(1);

/// The present, by three clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub monotonic: Duration,
    /// For people, and for rules that expire.
    pub wall: SystemTime,
    /// For pauses, also while the host sleeps; where known.
    pub boot: Option<SinceBoot>,
}

impl Now {
    /// What decisions depend on.
    pub(super) const fn clocks(&self) -> Clocks {
        Clocks {
            wall: self.wall,
            boot: self.boot,
        }
    }
}

/// A packet, and where it waits.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Where its verdict goes.
    pub waiting: Waiting,
    /// Which chain queued it.
    pub hook: Hook,
    /// Owner of the sending socket, where the kernel says so.
    pub uid: Option<u32>,
    /// From the IP header on.
    pub bytes: &'a [u8],
}

/// What the judge has counted since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Packets that came in.
    pub packets: u64,
    /// Packets that do not parse.
    pub unparsable: u64,
    /// Packets refused since too many wait.
    pub overload: u64,
    /// Packets refused since the rest of a QUIC hello did not come.
    pub unnamed: u64,
    /// Flows decided.
    pub decided: u64,
    /// Flows decided without their process.
    pub unattributed: u64,
    /// Questions whose answer took too long.
    pub late: u64,
    /// Flows refused since the entry of Gate17 is not there.
    pub tunnel_unavailable: u64,
    /// Flows decided but not remembered, since there are too many.
    pub untracked: u64,
}
