//! How nodes did so far: by this a path is chosen.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gate17_proto::{map::NodeId, path::Health, trouble::Trouble};

/// Nodes that are remembered; more than a map's worth are those of old maps.
const MOST: usize = 65_536;

#[derive(Clone, Debug)]
struct Record {
    trouble: Trouble,
    since: Instant,
    round_trip: Option<Duration>,
    problem: String,
}

/// Of all nodes that something was tried with.
#[derive(Debug, Default)]
pub struct Nodes {
    records: Mutex<HashMap<NodeId, Record>>,
}

impl Nodes {
    /// For the choice of a path.
    pub fn of(&self, node: &NodeId, now: Instant) -> Health {
        self.lock()
            .get(node)
            .map_or_else(Health::default, |record| Health {
                round_trip: record.round_trip,
                trouble: record.trouble.now(now.saturating_duration_since(record.since)),
            })
    }

    /// What went wrong last, in words; empty where nothing did, or not lately.
    pub fn problem(&self, node: &NodeId, now: Instant) -> String {
        let records = self.lock();
        let record = records.get(node);
        let troubled = record.filter(|record| {
            record.trouble.now(now.saturating_duration_since(record.since)) > gate17_proto::trouble::AVOIDED
        });
        troubled.map(|record| record.problem.clone()).unwrap_or_default()
    }

    /// It failed.
    pub fn failed(&self, node: &NodeId, problem: &str, now: Instant) {
        let mut records = self.lock();
        let record = record(&mut records, node, now);
        record.trouble = record.trouble.failed(now.saturating_duration_since(record.since));
        record.since = now;
        problem.clone_into(&mut record.problem);
    }

    /// It was measured; later measurements count for a quarter.
    pub fn measured(&self, node: &NodeId, round_trip: Duration, now: Instant) {
        let mut records = self.lock();
        let record = record(&mut records, node, now);
        record.round_trip = Some(
            record
                .round_trip
                .map_or(round_trip, |known| (known * 3 + round_trip) / 4),
        );
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Record>> {
        // nothing in here is left half done by a panic
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a node that may be new.
fn record<'a>(records: &'a mut HashMap<NodeId, Record>, node: &NodeId, now: Instant) -> &'a mut Record {
    if records.len() >= MOST {
        records.clear();
    }
    records.entry(node.clone()).or_insert_with(|| Record {
        trouble: Trouble::default(),
        since: now,
        round_trip: None,
        problem: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_failed_is_avoided_and_forgiven() {
        let (nodes, now, node) = (Nodes::default(), Instant::now(), NodeId("alpha".into()));
        assert_eq!(nodes.of(&node, now), Health::default());
        nodes.failed(&node, "gone", now);
        assert!(nodes.of(&node, now).trouble > gate17_proto::trouble::AVOIDED);
        assert_eq!(nodes.problem(&node, now), "gone");
        let later = now + Duration::from_secs(600);
        assert!(nodes.of(&node, later).trouble < 0.1);
        assert_eq!(nodes.problem(&node, later), "");
    }

    #[test]
    fn one_slow_answer_does_not_make_a_node_slow() {
        let (nodes, now, node) = (Nodes::default(), Instant::now(), NodeId("alpha".into()));
        nodes.measured(&node, Duration::from_millis(10), now);
        nodes.measured(&node, Duration::from_millis(50), now);
        assert_eq!(nodes.of(&node, now).round_trip, Some(Duration::from_millis(20)));
    }
}
