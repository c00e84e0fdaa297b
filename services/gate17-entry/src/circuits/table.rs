//! The circuits that are there, and whose they are.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use gate17_proto::map::{Map, NodeId};
use proto::gate17::v1::App;
use tokio::sync::Mutex as Turn;

use super::{
    ahead::Ahead,
    choice::Lessons,
    owner::{Destination, Owner, Shape},
};
use crate::circuit::Circuit;

/// From then on a circuit takes no new streams.
const AGE: Duration = Duration::from_secs(600);
/// From then on another one is to take its place.
const RIPE: Duration = Duration::from_secs(540);
/// Streams of one circuit.
const STREAMS: u64 = 200;
/// With so many, another one is to be there.
const MANY: u64 = 150;
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
    /// What is built before it is needed.
    pub(super) ahead: Ahead,
    /// Since when nothing goes through, by circuit.
    idle: HashMap<u64, Instant>,
}

impl Table {
    /// All circuits.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.circuits.values().flatten().chain(self.ahead.spares())
    }

    /// One that is there, and takes another stream to that destination; rather one that stays than one that is leaving.
    pub(super) fn ready(
        &self,
        map: &Map,
        owner: &Owner,
        to: Option<Destination>,
        lessons: &Lessons,
    ) -> Option<Arc<Circuit>> {
        let now = Instant::now();
        let fits = |known: &&Known| {
            let circuit = &known.circuit;
            takes(circuit, map, to)
                && lessons.admits(&circuit.exit.id)
                && now.saturating_duration_since(known.taken) < AGE
                && circuit.carried.now.load(Ordering::Relaxed) < STREAMS
        };
        let fit = || self.circuits.get(owner).into_iter().flatten().filter(fits);
        let found = fit().find(|known| stays_on(known, now)).or_else(|| fit().next());
        found.map(|known| Arc::clone(&known.circuit))
    }

    /// One that was built ahead, and nobody has yet.
    pub(super) fn spare(
        &mut self,
        map: &Map,
        shape: &Shape,
        to: Option<Destination>,
        lessons: &Lessons,
        now: Instant,
    ) -> Option<Arc<Circuit>> {
        self.ahead.take(shape, |circuit| {
            takes(circuit, map, to)
                && lessons.admits(&circuit.exit.id)
                && !circuit.is_leaving(now)
                && lessons.leaving.iter().all(|node| !circuit.hops.contains(node))
        })
    }

    /// Forgets circuits that ended, and closes those that nobody uses; gives both.
    pub(super) fn tidy(&mut self, map: Option<&Map>, now: Instant) -> Vec<Known> {
        let mut gone = self.ahead.tidy(now, |circuit| {
            map.is_some_and(|map| takes(circuit, map, None)) && !circuit.is_leaving(now)
        });
        let Self {
            circuits,
            turns,
            idle,
            ..
        } = self;
        circuits.retain(|_, known| {
            known.retain(|known| {
                if now.saturating_duration_since(known.taken) > AGE {
                    known.circuit.drain();
                }
                let stays = stays(&known.circuit, idle, now);
                if !stays {
                    idle.remove(&known.circuit.id);
                    gone.push(known.clone());
                }
                stays
            });
            !known.is_empty()
        });
        turns.retain(|owner, turn| circuits.contains_key(owner) || Arc::strong_count(turn) > 1);
        for known in &gone {
            known.circuit.close();
        }
        gone
    }

    /// Owners whose circuits are all to be replaced, with one of these, and the nodes that are to stop.
    pub(super) fn leaving(&self, map: &Map, now: Instant) -> Vec<(Owner, Known, Vec<NodeId>)> {
        let stays = |known: &Known| takes(&known.circuit, map, None) && stays_on(known, now);
        let owners = self.circuits.iter().filter(|(_, known)| !known.iter().any(stays));
        let owners = owners.filter_map(|(owner, known)| {
            let nodes = known.iter().flat_map(|known| known.circuit.leaving(now));
            Some((owner.clone(), known.first()?.clone(), nodes.collect()))
        });
        owners.collect()
    }

    /// Another circuit is there: those that are to go take nothing new.
    pub(super) fn drain(&self, owner: &Owner, now: Instant) {
        for known in self.circuits.get(owner).into_iter().flatten() {
            if !stays_on(known, now) && known.circuit.carried.now.load(Ordering::Relaxed) < STREAMS {
                known.circuit.drain();
            }
        }
    }
}

/// Neither it nor its nodes are about to go, and there is room in it.
fn stays_on(known: &Known, now: Instant) -> bool {
    !known.circuit.is_leaving(now)
        && now.saturating_duration_since(known.taken) < RIPE
        && known.circuit.carried.now.load(Ordering::Relaxed) < MANY
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
fn takes(circuit: &Circuit, map: &Map, to: Option<Destination>) -> bool {
    let node = |id: &NodeId| map.nodes.iter().find(|node| node.id == *id);
    circuit.is_open()
        // what the map says no more is used no more
        && circuit.hops.iter().all(|hop| node(hop).is_some())
        && node(&circuit.exit.id) == Some(&circuit.exit)
        && to.is_none_or(|to| circuit.carries(to))
}
