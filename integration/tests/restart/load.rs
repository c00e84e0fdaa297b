//! Traffic through a booted host that notices every loss, both ways.

use std::{fmt, net::IpAddr};

use integration::{
    Booted, Events,
    booted::{Builder, INTERNET},
};
use proto::interceptor::v1::Connection;
use serde::Deserialize;

use crate::script::{self, Count, PYTHON, Started};

const SCRIPT: &str = "load.py";
/// Its short-lived processes.
const NETCAT: &str = "/usr/bin/nc.openbsd";

/// One connection that was open all the time.
#[derive(Debug, Deserialize)]
pub(crate) struct Download {
    pub(crate) octets: u64,
    pub(crate) longest_pause_ms: f64,
    pub(crate) error: String,
}

/// What one side saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Side {
    pub(crate) connections: Count,
    pub(crate) datagrams: Count,
    /// Connections of processes that live no longer than they do; outgoing alone.
    pub(crate) processes: Count,
    pub(crate) download: Download,
}

impl Side {
    /// Connections, as the kernel counts them.
    fn began(&self) -> u64 {
        self.connections.attempted + self.datagrams.attempted + self.processes.attempted + 1
    }

    fn counts(&self) -> [(&'static str, &Count); 3] {
        [
            ("connections", &self.connections),
            ("datagrams", &self.datagrams),
            ("connections of short-lived processes", &self.processes),
        ]
    }
}

/// What both sides saw.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) outgoing: Side,
    pub(crate) incoming: Side,
    /// Events of connections that began, told to one subscriber.
    pub(crate) told: usize,
    /// Events that the subscriber was told it missed.
    pub(crate) dropped: u64,
    /// What was told of connections that failed.
    pub(crate) of_failed: Vec<String>,
}

/// Everything is refused but what the profile of the load allows: whoever is not known is refused.
pub(crate) fn files(host: Builder) -> Builder {
    let profile = format!(
        "[[match]]\npath = \"{PYTHON}\"\n[[match]]\npath = \"{NETCAT}\"\n[settings]\ndefault_action = \"allow\"\nblock_incoming = false\n"
    );
    let global = "[settings]\ndefault_action = \"block\"\n";
    script::files(host)
        .file("/etc/portmaster/profiles.d/global.toml", global)
        .file("/etc/portmaster/profiles.d/load.toml", &profile)
}

/// A host with these, and the product running.
pub(crate) fn host(label: &str) -> Booted {
    files(Booted::builder(label)).start()
}

/// Under way; dropped, it ends.
pub(crate) struct Load {
    _servers: [Started; 2],
    outgoing: Started,
    incoming: Started,
    events: Events,
}

impl Load {
    /// Servers on both sides, clients on both sides.
    pub(crate) fn start(host: &Booted) -> Self {
        let there = [INTERNET.0.into(), INTERNET.1.into()];
        let here = [host.link.a.v4.into(), host.link.a.v6.into()];
        let start = |is_outside, role: &str, addresses: [IpAddr; 2]| {
            let [v4, v6] = addresses.map(|address| address.to_string());
            let arguments = [role, &v4, &v6];
            if is_outside {
                Started::outside(host, SCRIPT, &arguments)
            } else {
                Started::inside(host, PYTHON, SCRIPT, &arguments)
            }
        };
        let servers = [start(true, "serve", there), start(false, "serve", here)];
        let events = Events::follow(&host.root().join("run/portmaster/interceptor.sock"));
        Self {
            _servers: servers,
            outgoing: start(false, "load-processes", there),
            incoming: start(true, "load", here),
            events,
        }
    }

    /// Ends it, and counts.
    pub(crate) fn stop(self) -> Outcome {
        let (outgoing, incoming): (Side, Side) = (self.outgoing.told(), self.incoming.told());
        let expected = outgoing.began() + incoming.began();
        let told = || {
            let mut ids: Vec<u64> = self
                .events
                .all()
                .into_iter()
                .filter_map(|event| event.connection)
                .filter(is_of_load)
                .map(|connection| connection.id)
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids.len()
        };
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while u64::try_from(told()).unwrap() < expected && std::time::Instant::now() < patience {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Outcome {
            told: told(),
            dropped: self.events.dropped(),
            of_failed: of_failed(&self.events, [&outgoing, &incoming]),
            outgoing,
            incoming,
        }
    }
}

impl Outcome {
    /// # Panics
    /// If anything was lost, refused, or not told of.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        self.assert_no_packet_lost();
        assert_eq!(self.dropped, 0, "events: {self}");
        assert_eq!(
            u64::try_from(self.told).unwrap(),
            self.outgoing.began() + self.incoming.began(),
            "each connection is told of once: {self}"
        );
    }

    /// # Panics
    /// If anything was lost or refused.
    #[track_caller]
    pub(crate) fn assert_no_packet_lost(&self) {
        for (way, side) in [("outgoing", &self.outgoing), ("incoming", &self.incoming)] {
            for (what, count) in side.counts() {
                let is_none = way == "incoming" && what.contains("processes");
                assert_eq!(
                    count.done == 0,
                    is_none,
                    "{way} {what}: there was no load: {self}"
                );
                assert_eq!(count.done, count.attempted, "{way} {what}: {self}");
            }
            // the first SYN is repeated after 1 s: whoever waited that long had lost it, unless datagrams did too, which nobody repeats
            let bound = f64::max(1000.0, side.datagrams.longest_ms + 200.0);
            assert!(
                side.connections.longest_ms < bound,
                "{way}: a SYN was lost: {self}"
            );
            assert_eq!(side.download.error, "", "{way}: {self}");
            assert!(side.download.octets > 0, "{way}: {self}");
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (way, side) in [("outgoing", &self.outgoing), ("incoming", &self.incoming)] {
            for (what, count) in side.counts().into_iter().filter(|(_, count)| count.attempted > 0) {
                writeln!(f, "{way} {what}: {count}")?;
            }
            let Download {
                octets,
                longest_pause_ms,
                error,
            } = &side.download;
            writeln!(
                f,
                "{way} download: {octets} octets, longest pause {longest_pause_ms:.0} ms {error}"
            )?;
        }
        let mut waits = self.outgoing.datagrams.waits_ms.clone();
        waits.sort_by(f64::total_cmp);
        let middle = waits.get(waits.len() / 2).copied().unwrap_or_default();
        writeln!(
            f,
            "without a decision: {} times, median {middle:.0} ms, longest {:.0} ms",
            waits.len(),
            waits.last().copied().unwrap_or_default()
        )?;
        write!(
            f,
            "events: {} connections told, {} dropped",
            self.told, self.dropped
        )?;
        self.of_failed.iter().try_for_each(|event| write!(f, "\n{event}"))
    }
}

/// What was decided of the connections whose ports stand in the errors of the load.
fn of_failed(events: &Events, sides: [&Side; 2]) -> Vec<String> {
    let errors = sides.map(|side| side.connections.errors.join("; ")).join("; ");
    let is_named = |port: u32| port > 7003 && errors.contains(&format!(", {port}"));
    let of_port = |event: &proto::interceptor::v1::ConnectionEvent| {
        let flow = event.connection.as_ref()?.flow.as_ref()?;
        (is_named(flow.local_port) || is_named(flow.remote_port)).then(|| format!("{event:?}"))
    };
    events.all().iter().filter_map(of_port).collect()
}

/// Its ports are nobody else's.
fn is_of_load(connection: &Connection) -> bool {
    let flow = connection.flow.as_ref();
    flow.is_some_and(|flow| (7001..=7003).any(|port| flow.local_port == port || flow.remote_port == port))
}
