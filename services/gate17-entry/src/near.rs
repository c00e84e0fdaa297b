//! Which exit is near a destination: measured, not guessed. An address does not tell where it is; how long an exit needed to
//! get an answer from there does.
//!
//! The first connections to a network go by exits of three regions; from then on by the one that had its answer soonest.
//! That is forgotten after an hour.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gate17_proto::{
    map::{Node, NodeId},
    path::Network,
};

/// Exits that are measured for a network before one is preferred.
const TRIED: usize = 3;
/// After that it is measured anew.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Those that are no slower than the nearest by this much are as near.
const SAME: Duration = Duration::from_millis(5);
/// Networks that are remembered.
const MOST: usize = 4096;

/// How long exits needed to reach networks; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Reached(Arc<Mutex<Networks>>);

/// By network and exit: how long it took, and when that was.
type Networks = HashMap<Network, HashMap<NodeId, (Duration, Instant)>>;

impl Reached {
    /// An exit had an answer from there after so long, its own distance from us not counted.
    pub fn measured(&self, exit: &NodeId, to: IpAddr, took: Duration, now: Instant) {
        let mut networks = self.lock();
        if networks.len() >= MOST {
            networks.clear();
        }
        let exits = networks.entry(Network::of(to)).or_default();
        let known = exits.get(exit).map(|(known, _)| *known);
        // one slow answer of a server does not make an exit far
        let took = known.map_or(took, |known| (known * 3 + took) / 4);
        exits.insert(exit.clone(), (took, now));
    }

    /// Which of `exits` may be taken to get there; None: all.
    pub fn admitted(&self, exits: &[&Node], to: IpAddr, now: Instant) -> Option<Vec<NodeId>> {
        let networks = self.lock();
        let known = networks.get(&Network::of(to));
        let time = |node: &Node| {
            let (took, since) = known?.get(&node.id)?;
            (now.saturating_duration_since(*since) < FORGOTTEN).then_some(*took)
        };
        admitted(exits, time)
    }

    fn lock(&self) -> MutexGuard<'_, Networks> {
        // nothing in here is left half done by a panic
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admitted(exits: &[&Node], time: impl Fn(&Node) -> Option<Duration>) -> Option<Vec<NodeId>> {
    let measured: Vec<_> = exits
        .iter()
        .filter_map(|node| Some((*node, time(node)?)))
        .collect();
    if measured.is_empty() {
        return None;
    }
    if measured.len() < TRIED.min(exits.len()) {
        let untried = |other: &Node| measured.iter().all(|(node, _)| node.id != other.id);
        let elsewhere = |other: &Node| measured.iter().all(|(node, _)| node.region != other.region);
        let ids = |wanted: &dyn Fn(&Node) -> bool| -> Vec<NodeId> {
            let found = exits.iter().filter(|node| wanted(node));
            found.map(|node| node.id.clone()).collect()
        };
        // of another region, where there is one that was not tried
        let regions = ids(&elsewhere);
        return Some(if regions.is_empty() {
            ids(&untried)
        } else {
            regions
        });
    }
    let nearest = measured.iter().map(|(_, took)| *took).min()?;
    let near = measured.into_iter().filter(|(_, took)| *took <= nearest + SAME);
    Some(near.map(|(node, _)| node.id.clone()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use gate17_maps::testing::map;

    const TO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    #[test]
    fn exits_of_other_regions_are_tried_and_then_the_nearest_is_taken() {
        let (map, reached, now) = (map(5), Reached::default(), Instant::now());
        let exits: Vec<&Node> = map.nodes.iter().collect();
        assert_eq!(reached.admitted(&exits, TO, now), None);
        for (place, millis) in [80, 10, 30].into_iter().enumerate() {
            let id = &exits[place].id;
            reached.measured(id, TO, Duration::from_millis(millis), now);
            let next = reached.admitted(&exits, TO, now).unwrap();
            assert!(place == 2 || !next.contains(id), "{next:?}");
        }
        assert_eq!(reached.admitted(&exits, TO, now).unwrap(), [exits[1].id.clone()]);
        // a host beside it is as near; one elsewhere was not measured; and all is forgotten in the end
        let beside = "198.51.3.4".parse().unwrap();
        assert!(reached.admitted(&exits, beside, now).is_some());
        assert_eq!(reached.admitted(&exits, "192.0.2.1".parse().unwrap(), now), None);
        assert_eq!(reached.admitted(&exits, TO, now + FORGOTTEN), None);
    }

    proptest! {
        #[test]
        fn some_exit_is_admitted_always_and_never_one_that_is_known_to_be_far(
            times in prop::collection::vec(prop::option::of(0_u64..500), 1..8),
        ) {
            let map = map(times.len());
            let exits: Vec<&Node> = map.nodes.iter().collect();
            let time = |node: &Node| {
                let place = exits.iter().position(|other| other.id == node.id)?;
                times[place].map(Duration::from_millis)
            };
            let measured = times.iter().flatten().count();
            let chosen = admitted(&exits, time);
            prop_assert_eq!(chosen.is_none(), measured == 0);
            let Some(chosen) = chosen else { return Ok(()) };
            prop_assert!(!chosen.is_empty());
            if measured >= TRIED {
                let least = times.iter().flatten().min().copied().unwrap_or(0);
                for node in exits.iter().filter(|node| chosen.contains(&node.id)) {
                    prop_assert!(time(node).is_some_and(|took| took <= Duration::from_millis(least) + SAME));
                }
            }
        }
    }
}
