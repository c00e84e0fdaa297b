//! What is told of circuits and streams, in sum.

use std::{sync::atomic::Ordering, time::Duration};

use daemon::{
    metrics::{Also, Histogram, Metric},
    status::{Counter, Status},
};

use crate::circuit::Circuit;

const BUILD: Metric = Metric {
    name: "portmaster.gate17.circuit.build.duration",
    unit: "s",
    description: "How long circuits took to be built",
};
const BUILDS: Metric = Metric {
    name: "portmaster.gate17.circuit.builds",
    unit: "{circuit}",
    description: "Attempts to build a circuit, by what became of them",
};
const CIRCUITS: Metric = Metric {
    name: "portmaster.gate17.circuits",
    unit: "{circuit}",
    description: "Circuits that are there",
};
const STREAMS: Metric = Metric {
    name: "portmaster.gate17.streams",
    unit: "{stream}",
    description: "Streams that are open",
};
const IO: Metric = Metric {
    name: "portmaster.gate17.io",
    unit: "By",
    description: "Octets carried for programs",
};
const REFUSED: Metric = Metric {
    name: "portmaster.gate17.refused",
    unit: "{connection}",
    description: "What came to the entry and was not carried",
};

/// What is counted plainly, and is a metric's series as well.
const ALSO: [Also; 6] = [
    ("octets_sent", IO, &[("network.io.direction", "transmit")]),
    ("octets_received", IO, &[("network.io.direction", "receive")]),
    (
        "connections_of_strangers",
        REFUSED,
        &[("portmaster.why", "stranger"), ("network.transport", "tcp")],
    ),
    (
        "connections_too_many",
        REFUSED,
        &[("portmaster.why", "too-many"), ("network.transport", "tcp")],
    ),
    (
        "datagrams_of_strangers",
        REFUSED,
        &[("portmaster.why", "stranger"), ("network.transport", "udp")],
    ),
    (
        "datagrams_too_many",
        REFUSED,
        &[("portmaster.why", "too-many"), ("network.transport", "udp")],
    ),
];

/// Counted here, shown by [`Figures::show`].
#[derive(Clone, Debug, Default)]
pub struct Figures {
    building: Histogram,
    built: Counter,
    failed: Counter,
    circuits: Counter,
    streams: Counter,
}

impl Figures {
    /// A circuit is there, after so long.
    pub fn built(&self, took: Duration) {
        self.built.add(1);
        self.building.record(took);
    }

    /// A circuit could not be built.
    pub fn failed(&self) {
        self.failed.add(1);
    }

    /// These are there now.
    pub fn stand<'a>(&self, circuits: impl Iterator<Item = &'a Circuit>) {
        let (count, streams) = circuits.fold((0, 0), |(count, streams), circuit| {
            (count + 1, streams + circuit.carried.now.load(Ordering::Relaxed))
        });
        self.circuits.set(count);
        self.streams.set(streams);
    }

    /// In the service's state from now on.
    pub fn show(&self, status: &Status) {
        status.show_also(&ALSO);
        status.show(BUILD, &[], &self.building);
        status.show_counter(BUILDS, &[("portmaster.result", "built")], &self.built);
        status.show_counter(BUILDS, &[("portmaster.result", "failed")], &self.failed);
        status.show_gauge(CIRCUITS, &[], &self.circuits);
        status.show_gauge(STREAMS, &[], &self.streams);
    }
}
