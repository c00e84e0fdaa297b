//! What the packet path counts, for the status.

use daemon::status::{Counter, Status};

use crate::{judge::Judge, tunnel};

pub(super) struct Counters {
    packets: Counter,
    decided: Counter,
    unattributed: Counter,
    late: Counter,
    unparsable: Counter,
    overload: Counter,
    unnamed: Counter,
    untracked: Counter,
    tunnel_unavailable: Counter,
    flows: Counter,
    pending: Counter,
    pub(super) events_dropped: Counter,
    pub(super) verdict_errors: Counter,
}

impl Counters {
    pub(super) fn new(status: &Status) -> Self {
        Self {
            packets: status.counter("packets"),
            decided: status.counter("connections_decided"),
            unattributed: status.counter("connections_unattributed"),
            late: status.counter("attribution_late"),
            unparsable: status.counter("packets_unparsable"),
            overload: status.counter("packets_overload"),
            unnamed: status.counter("packets_unnamed"),
            untracked: status.counter("connections_untracked"),
            tunnel_unavailable: status.counter("connections_tunnel_unavailable"),
            flows: status.counter("connections_now"),
            pending: status.counter("pending_now"),
            events_dropped: status.counter("events_dropped"),
            verdict_errors: status.counter("verdict_errors"),
        }
    }

    /// What the judge counted.
    pub(super) fn show(&self, judge: &Judge, status: &Status) {
        let (counts, (flows, pending)) = (judge.counts(), judge.sizes());
        self.packets.set(counts.packets);
        self.decided.set(counts.decided);
        self.unattributed.set(counts.unattributed);
        self.late.set(counts.late);
        self.unparsable.set(counts.unparsable);
        self.overload.set(counts.overload);
        self.unnamed.set(counts.unnamed);
        self.untracked.set(counts.untracked);
        if self.tunnel_unavailable.get() != counts.tunnel_unavailable {
            self.tunnel_unavailable.set(counts.tunnel_unavailable);
            tunnel::is_missing(status);
        }
        self.flows.set(u64::try_from(flows).unwrap_or(u64::MAX));
        self.pending.set(u64::try_from(pending).unwrap_or(u64::MAX));
    }
}
