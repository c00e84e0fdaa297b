//! Calls of the API, and one who watches, while the gateway restarts and is killed.

use integration::Booted;
use serde::Deserialize;

use crate::{
    kill,
    load::{self, Outcome},
    meanwhile,
    script::{Asked, Counts, PYTHON, Started},
};

pub(crate) const UNIT: &str = "portmaster-api-gateway.service";

/// Under way; dropped, it ends.
pub(crate) struct Calls(Started);

/// What became of them.
#[derive(Debug, Deserialize)]
struct Told {
    counts: Counts,
    watched: Watched,
}

/// What one client was told, who went on behind what he saw last each time.
#[derive(Debug, Deserialize)]
pub(crate) struct Watched {
    /// Connections of the load.
    ids: Vec<u64>,
    dropped: u64,
    refused: u64,
    /// Times that he began to watch.
    streams: u64,
    errors: Vec<String>,
}

impl Calls {
    pub(crate) fn start(host: &Booted) -> Self {
        host.wait_for(UNIT, "active");
        Self(Started::inside(host, PYTHON, "calls.py", &[]))
    }

    /// Ends it, and counts.
    pub(crate) fn stop(self) -> (Asked, Watched) {
        let Told { counts, watched } = self.0.told();
        let asked = Asked { counts };
        println!(
            "calls:\n{asked}\nwatched: {} connections in {} streams, {} dropped, {} refused {:?}\n",
            watched.ids.len(),
            watched.streams,
            watched.dropped,
            watched.refused,
            watched.errors
        );
        (asked, watched)
    }
}

impl Watched {
    /// # Panics
    /// If he missed one of the load's connections, or was not let in.
    #[track_caller]
    pub(crate) fn assert_nothing_missed(&self, outcome: &Outcome) {
        assert_eq!((self.dropped, self.refused), (0, 0), "{:?}", self.errors);
        assert!(self.errors.is_empty(), "{:?}", self.errors);
        assert_eq!(self.ids.len(), outcome.told, "{outcome}");
    }
}

fn calls_meanwhile(label: &str, what: &str, act: impl FnMut(&Booted)) -> Asked {
    let host = load::host(label);
    let calls = Calls::start(&host);
    let outcome = meanwhile(&host, what, act);
    outcome.assert_nothing_lost();
    let (asked, watched) = calls.stop();
    watched.assert_nothing_missed(&outcome);
    asked
}

#[test]
fn a_restart_of_the_gateway_refuses_no_call_and_who_watches_misses_nothing() {
    let asked = calls_meanwhile("r-api", &format!("systemctl restart {UNIT}"), |host| {
        host.systemctl(&format!("restart {UNIT}"));
    });
    asked.assert_all_answered();
    for (what, count) in asked.counts.iter().filter(|(what, _)| *what != "kept") {
        assert_eq!(count.again, 0, "{what}: {asked}");
    }
}

/// A call that the killed process was answering gets no answer; none is refused.
#[test]
fn a_killed_gateway_refuses_no_call_and_who_watches_misses_nothing() {
    let asked = calls_meanwhile("k-api", &format!("kill -9 {UNIT}"), |host| kill(host, UNIT));
    for (what, count) in &asked.counts {
        assert_eq!((count.refused, count.lost), (0, 0), "{what}: {asked}");
        // those that were in the making
        let in_the_making = u64::try_from(crate::times()).unwrap();
        assert!(count.failed <= in_the_making, "{what}: {asked}");
    }
}
