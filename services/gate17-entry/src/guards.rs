//! First nodes, kept for weeks: who takes another first node for each circuit meets, sooner or later, one that watches.
//!
//! A small set, in the order in which they were taken. The first that can be had is used; a further one is taken only where
//! none can, and never more than [`MOST`].

use std::{fs, path::PathBuf};

use gate17_proto::map::{Map, NodeId};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// In a set.
pub const MOST: usize = 3;
/// That one is kept: so long, or up to twice as long.
const DAYS: u64 = 30;
/// Longest file.
const LONGEST: u64 = 64 << 10;

/// See the module's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guards {
    /// Of which network.
    network: String,
    kept: Vec<Guard>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Guard {
    node: NodeId,
    until: Timestamp,
}

impl Guards {
    /// Those that a map still has as relays, in their order.
    pub fn of(&self, map: &Map, now: Timestamp) -> Vec<NodeId> {
        if self.network != map.network {
            return Vec::new();
        }
        let kept = self.kept.iter().filter(|guard| guard.holds(map, now));
        kept.map(|guard| guard.node.clone()).collect()
    }

    /// Takes one more, if there is room; forgets those that are over. Whether anything changed.
    pub fn keep(&mut self, node: &NodeId, map: &Map, now: Timestamp, seed: u64) -> bool {
        let before = self.clone();
        if self.network != map.network {
            self.network.clone_from(&map.network);
            self.kept.clear();
        }
        self.kept.retain(|guard| guard.holds(map, now));
        let is_kept = self.kept.iter().any(|guard| guard.node == *node);
        if !is_kept && self.kept.len() < MOST {
            // not all clients change at one time
            let hours = DAYS * 24 + seed % (DAYS * 24);
            let lifetime = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(0));
            self.kept.push(Guard {
                node: node.clone(),
                until: now.saturating_add(lifetime).unwrap_or(now),
            });
        }
        *self != before
    }
}

impl Guard {
    fn holds(&self, map: &Map, now: Timestamp) -> bool {
        let is_relay = |node: &gate17_proto::map::Node| node.relay && node.id == self.node;
        now < self.until && map.nodes.iter().any(is_relay)
    }
}

/// Where they are kept over restarts.
#[derive(Clone, Debug)]
pub struct File(PathBuf);

impl File {
    /// In the service's state.
    pub fn new(state: &std::path::Path) -> Self {
        Self(state.join("guards.json"))
    }

    /// What was kept; none where nothing was, or it cannot be read.
    pub fn load(&self) -> Guards {
        let short = fs::metadata(&self.0).is_ok_and(|file| file.len() <= LONGEST);
        let text = if short { fs::read(&self.0).ok() } else { None };
        let Some(text) = text else {
            return Guards::default();
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(%error, file = %self.0.display(), "the first nodes of before are not known any more: others are taken");
            Guards::default()
        })
    }

    /// For the next start.
    pub fn save(&self, guards: &Guards) {
        let saved = serde_json::to_vec(guards)
            .map_err(std::io::Error::other)
            .and_then(|text| daemon::files::replace(&self.0, &text));
        if let Err(error) = saved {
            tracing::warn!(%error, "the first nodes are not kept: after a restart others are taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use gate17_maps::testing::map;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 86_400).unwrap()
    }

    fn id(text: &str) -> NodeId {
        NodeId(text.to_owned())
    }

    #[test]
    fn a_first_node_is_kept_for_weeks_and_then_forgotten() {
        let (mut guards, map) = (Guards::default(), map(4));
        assert!(guards.keep(&id("n0"), &map, at(0), 7));
        assert!(!guards.keep(&id("n0"), &map, at(1), 8));
        assert_eq!(guards.of(&map, at(29)), [id("n0")]);
        assert_eq!(guards.of(&map, at(61)), []);
    }

    #[test]
    fn one_that_the_map_names_no_more_or_of_another_network_is_none() {
        let (mut guards, mut map) = (Guards::default(), map(4));
        guards.keep(&id("n0"), &map, at(0), 7);
        map.nodes.retain(|node| node.id != id("n0"));
        assert_eq!(guards.of(&map, at(1)), []);
        let mut other = gate17_maps::testing::map(4);
        other.network = "other".to_owned();
        assert_eq!(guards.of(&other, at(1)), []);
    }

    #[test]
    fn they_survive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::new(folder.path());
        assert_eq!(file.load(), Guards::default());
        let mut guards = Guards::default();
        guards.keep(&id("n2"), &map(4), at(0), 7);
        file.save(&guards);
        assert_eq!(file.load(), guards);
        fs::write(folder.path().join("guards.json"), "{").unwrap();
        assert_eq!(file.load(), Guards::default());
    }

    proptest! {
        #[test]
        fn however_many_are_tried_few_are_kept_each_once(tried in prop::collection::vec((0_usize..8, 0_i64..200, any::<u64>()), 0..64)) {
            let (mut guards, map) = (Guards::default(), map(8));
            let mut day = 0;
            for (node, days, seed) in tried {
                day += days / 20;
                guards.keep(&id(&format!("n{node}")), &map, at(day), seed);
                let kept = guards.of(&map, at(day));
                let mut once = kept.clone();
                once.sort();
                once.dedup();
                prop_assert!(kept.len() <= MOST && once.len() == kept.len());
            }
        }
    }
}
