//! What the packet path counts, for the status.

use std::{collections::HashMap, time::Instant};

use daemon::{
    metrics::{Also, EVENTS_DROPPED, Histogram, Metric, STAGE},
    status::{Counter, Status},
};
use verdict::{Verdict, Why};

use crate::{
    judge::{Event, EventKind, Judge},
    tunnel,
};

const DECISIONS: Metric = Metric {
    name: "portmaster.decisions",
    unit: "{connection}",
    description: "New connections decided, by verdict and why",
};
const PACKETS_DROPPED: Metric = Metric {
    name: "portmaster.packets.dropped",
    unit: "{packet}",
    description: "First packets dropped without a decision about their connection",
};
const QUEUED: Metric = Metric {
    name: "portmaster.queue.depth",
    unit: "{packet}",
    description: "Packets that wait in the kernel's queues",
};
const PENDING: Metric = Metric {
    name: "portmaster.connections.pending",
    unit: "{connection}",
    description: "Connections whose first packets wait for a decision",
};
const LIVE: Metric = Metric {
    name: "portmaster.connections.live",
    unit: "{connection}",
    description: "Connections that passed, and are not over",
};

/// What is counted plainly, where, and is a metric's series as well.
const ALSO: [Also; 12] = [
    (
        "packets_overload",
        PACKETS_DROPPED,
        &[("portmaster.why", "overload")],
    ),
    (
        "packets_unparsable",
        PACKETS_DROPPED,
        &[("portmaster.why", "unparsable")],
    ),
    (
        "packets_unnamed",
        PACKETS_DROPPED,
        &[("portmaster.why", "unnamed")],
    ),
    (
        "kernel_dropped_queue_full",
        PACKETS_DROPPED,
        &[("portmaster.why", "kernel-queue-full")],
    ),
    (
        "kernel_dropped_buffer_full",
        PACKETS_DROPPED,
        &[("portmaster.why", "kernel-buffer-full")],
    ),
    (
        "verdict_errors",
        PACKETS_DROPPED,
        &[("portmaster.why", "verdict-not-taken")],
    ),
    ("queue_waiting_now", QUEUED, &[]),
    ("pending_now", PENDING, &[]),
    ("connections_now", LIVE, &[]),
    ("events_dropped", EVENTS_DROPPED, &[("portmaster.to", "hub")]),
    (
        "subscriber_events_dropped",
        EVENTS_DROPPED,
        &[("portmaster.to", "subscribers")],
    ),
    ("bus_events_dropped", EVENTS_DROPPED, &[("portmaster.to", "bus")]),
];

/// Questions whose time is taken at once: more than may be out, with room for those that nobody answers.
const MOST_ASKED: usize = 1024;

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
    pub(super) events_unwritten: Counter,
    pub(super) verdict_errors: Counter,
    status: Status,
    /// Those that there were.
    decisions: HashMap<(Verdict, Why), Counter>,
    /// When it was asked whose a flow is, by request.
    asked: HashMap<u64, Instant>,
    attribution: Histogram,
    decide: Histogram,
}

impl Counters {
    pub(super) fn new(status: &Status) -> Self {
        status.show_also(&ALSO);
        let stage = |name| status.histogram(STAGE, &[("portmaster.stage", name)]);
        Self {
            status: status.clone(),
            decisions: HashMap::new(),
            asked: HashMap::new(),
            attribution: stage("attribution"),
            decide: stage("decide"),
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
            events_unwritten: status.counter("events_unwritten"),
            verdict_errors: status.counter("verdict_errors"),
        }
    }

    /// It is asked whose a flow is.
    pub(super) fn asked(&mut self, request: u64) {
        if self.asked.len() >= MOST_ASKED {
            self.asked.clear();
        }
        self.asked.insert(request, Instant::now());
    }

    /// The answer was there `at` that time, and now the verdict is out.
    pub(super) fn decided(&mut self, request: u64, at: Instant) {
        if let Some(asked) = self.asked.remove(&request) {
            self.attribution.record(at.saturating_duration_since(asked));
        }
        self.decide.record(at.elapsed());
    }

    /// Something is told.
    pub(super) fn told(&mut self, event: &Event) {
        if event.kind != EventKind::Decided {
            return;
        }
        let decision = &event.connection.decision;
        let (verdict, why) = (decision.verdict, decision.why);
        let status = &self.status;
        let counter = self.decisions.entry((verdict, why)).or_insert_with(|| {
            let words = [
                ("portmaster.verdict", verdict.text()),
                ("portmaster.why", why.text()),
            ];
            status.counted(DECISIONS, &words)
        });
        counter.add(1);
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
