//! The circuits that are there, and whose they are.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use gate17_proto::map::{Map, NodeId};
use proto::gate17::v1::App;
use tokio::sync::Mutex as Turn;

use super::owner::{Destination, Owner};
use crate::circuit::Circuit;

/// From then on a circuit takes no new streams.
pub(super) const AGE: Duration = Duration::from_secs(600);
/// Streams of one circuit.
const STREAMS: u64 = 200;
/// A circuit that carries nothing is closed after this time.
const IDLE: Duration = Duration::from_secs(120);

/// A circuit, and whose it is.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its own.
    pub circuit: Arc<Circuit>,
    /// For display; none where programs share it, or nobody has it yet.
    pub app: Option<App>,
    /// The profile that it was built for.
    pub profile: String,
    /// Since when it is theirs.
    pub taken: Instant,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) circuits: HashMap<Owner, Vec<Known>>,
    /// One builds at a time for each owner, the others use what it built.
    pub(super) turns: HashMap<Owner, Arc<Turn<()>>>,
    /// Since when nothing goes through, by circuit.
    idle: HashMap<u64, Instant>,
}

impl Table {
    /// One that is there, and takes another stream to that destination; rather one that stays than one that is leaving.
    pub(super) fn ready(
        &self,
        map: &Map,
        owner: &Owner,
        destination: Option<Destination>,
        avoid: &[NodeId],
    ) -> Option<Arc<Circuit>> {
        let now = Instant::now();
        let fits = |known: &&Known| {
            let circuit = &known.circuit;
            takes(circuit, map, destination, avoid)
                && now.saturating_duration_since(known.taken) < AGE
                && circuit.carried.now.load(Ordering::Relaxed) < STREAMS
        };
        let fit = || self.circuits.get(owner).into_iter().flatten().filter(fits);
        let found = fit()
            .find(|known| !known.circuit.is_leaving(now))
            .or_else(|| fit().next());
        found.map(|known| Arc::clone(&known.circuit))
    }

    /// Forgets circuits that ended, and closes those that nobody uses; gives both.
    pub(super) fn tidy(&mut self, now: Instant) -> Vec<Known> {
        let mut gone = Vec::new();
        let Self {
            circuits,
            turns,
            idle,
        } = self;
        circuits.retain(|_, known| {
            known.retain(|known| {
                if now.saturating_duration_since(known.taken) > AGE {
                    known.circuit.drain();
                }
                let stays = stays(&known.circuit, idle, now);
                if !stays {
                    known.circuit.close();
                    idle.remove(&known.circuit.id);
                    gone.push(known.clone());
                }
                stays
            });
            !known.is_empty()
        });
        turns.retain(|owner, turn| circuits.contains_key(owner) || Arc::strong_count(turn) > 1);
        gone
    }
}

fn stays(circuit: &Circuit, idle: &mut HashMap<u64, Instant>, now: Instant) -> bool {
    let used = circuit.carried.now.load(Ordering::Relaxed) > 0;
    if used {
        idle.remove(&circuit.id);
        return circuit.lives();
    }
    let since = *idle.entry(circuit.id).or_insert(now);
    circuit.lives() && circuit.is_open() && now.saturating_duration_since(since) <= IDLE
}

/// Whether a circuit is what the map says, and carries to a destination.
pub(super) fn takes(
    circuit: &Circuit,
    map: &Map,
    destination: Option<Destination>,
    avoid: &[NodeId],
) -> bool {
    let node = |id: &NodeId| map.nodes.iter().find(|node| node.id == *id);
    circuit.is_open()
        // what the map says no more is used no more
        && circuit.hops.iter().all(|hop| node(hop).is_some())
        && node(&circuit.exit.id) == Some(&circuit.exit)
        && !avoid.contains(&circuit.exit.id)
        && destination.is_none_or(|destination| circuit.carries(destination))
}
