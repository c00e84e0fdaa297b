//! How nodes did so far: by this a path is chosen.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gate17_proto::{
    map::NodeId,
    path::Health,
    trouble::{AVOIDED, Trouble},
};

use crate::blame::Fault;

/// Nodes that are remembered; more than a map's worth are those of old maps.
const MOST: usize = 65_536;

/// What ended several circuits within this time was one break.
const ONCE: Duration = Duration::from_secs(5);

/// Of one node: a pure value, with time as it is told.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    trouble: Trouble,
    since: Option<Instant>,
    round_trip: Option<Duration>,
    problem: String,
}

impl Standing {
    /// How much it is to be avoided: 0 to 1, less with time.
    pub fn trouble(&self, now: Instant) -> f64 {
        self.trouble.now(self.passed(now))
    }

    /// It had a part in a failure, of this weight.
    pub fn blamed(&mut self, weight: f64, problem: &str, now: Instant) {
        self.trouble = self.trouble.blamed(weight, self.passed(now));
        self.since = Some(now);
        problem.clone_into(&mut self.problem);
    }

    /// It did what it is there for.
    pub fn did_well(&mut self, now: Instant) {
        self.trouble = self.trouble.eased(self.passed(now));
        self.since = Some(now);
    }

    /// What it adds to a path's round trip; later measurements count for a quarter.
    pub fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(
            self.round_trip
                .map_or(round_trip, |known| (known * 3 + round_trip) / 4),
        );
    }

    fn passed(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[derive(Debug, Default)]
struct Record {
    standing: Standing,
    /// At which of its addresses it answered last: to us, and to a node before it.
    answered: [Option<SocketAddr>; 2],
    /// When it last had a part in a break.
    broke: Option<Instant>,
}

/// Of all nodes that something was tried with; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    records: Arc<Mutex<HashMap<NodeId, Record>>>,
}

impl Nodes {
    /// For the choice of a path.
    pub fn of(&self, node: &NodeId, now: Instant) -> Health {
        self.lock()
            .get(node)
            .map_or_else(Health::default, |record| Health {
                round_trip: record.standing.round_trip,
                trouble: record.standing.trouble(now),
            })
    }

    /// Whether others are to be taken, where there are any.
    pub fn is_avoided(&self, node: &NodeId, now: Instant) -> bool {
        self.of(node, now).trouble >= AVOIDED
    }

    /// What went wrong last, in words; empty where nothing did, or not lately.
    pub fn problem(&self, node: &NodeId, now: Instant) -> String {
        let records = self.lock();
        let standing = records.get(node).map(|record| &record.standing);
        let troubled = standing.filter(|standing| standing.trouble(now) >= AVOIDED);
        troubled
            .map(|standing| standing.problem.clone())
            .unwrap_or_default()
    }

    /// A path of `hops` failed: whoever had a part in it is blamed.
    pub fn failed(&self, hops: &[NodeId], fault: &Fault, now: Instant) {
        for (place, weight) in fault.blame() {
            let Some(node) = hops.get(place) else { continue };
            let text = match hops.get(fault.at) {
                Some(other) if place != fault.at => format!("the node after it, {}: {}", other.0, fault.text),
                _ => fault.text.clone(),
            };
            self.with(node, |record| {
                if fault.is_break() {
                    if record
                        .broke
                        .is_some_and(|last| now.saturating_duration_since(last) < ONCE)
                    {
                        return;
                    }
                    record.broke = Some(now);
                }
                record.standing.blamed(weight, &text, now);
            });
        }
    }

    /// It did what it is there for.
    pub fn did_well(&self, node: &NodeId, now: Instant) {
        if let Some(record) = self.lock().get_mut(node) {
            record.standing.did_well(now);
        }
    }

    /// It was measured.
    pub fn measured(&self, node: &NodeId, round_trip: Duration) {
        self.with(node, |record| record.standing.measured(round_trip));
    }

    /// It answered at this address; `through`: to a node before it, else to us.
    pub fn answered(&self, node: &NodeId, through: bool, address: SocketAddr) {
        self.with(node, |record| {
            let [direct, behind] = &mut record.answered;
            *(if through { behind } else { direct }) = Some(address);
        });
    }

    /// Where it answered last.
    pub fn answers_at(&self, node: &NodeId, through: bool) -> Option<SocketAddr> {
        let records = self.lock();
        let [direct, behind] = records.get(node)?.answered;
        if through { behind } else { direct }
    }

    fn with(&self, node: &NodeId, change: impl FnOnce(&mut Record)) {
        let mut records = self.lock();
        if records.len() >= MOST {
            records.clear();
        }
        change(records.entry(node.clone()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Record>> {
        // nothing in here is left half done by a panic
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
