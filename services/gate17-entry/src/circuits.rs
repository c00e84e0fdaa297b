//! Which circuit a stream goes by: one that is there for this program, else a new one.
//!
//! Streams of different programs never share a circuit, unless their profiles say so. What fails before a stream began is
//! tried again by another way; what the far end itself says goes to the program. Nothing ever goes out directly.

mod choice;
mod means;
mod owner;
mod table;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gate17_proto::{
    exit::Transport,
    map::{Map, Node, NodeId},
    path::{NoPath, Path},
    target::Target,
};
use proto::gate17::v1::Cause;
use tokio::sync::broadcast;

use self::{
    choice::{Lessons, draw},
    owner::{Destination, Owner, Shape, destination},
    table::Table,
};
use crate::{
    circuit::{self, Circuit},
    health::Nodes,
    map_keeper::Maps,
    refusal::Refusal,
};

pub use self::{means::Credentials, owner::Want, table::Known};

/// Ways that are tried for one stream.
const TRIES: usize = 3;
/// For a circuit to be there, all tries together.
const BUILDING: Duration = Duration::from_secs(15);
/// Circuits at once.
const MOST: usize = 1024;

#[derive(Debug)]
struct Inner {
    maps: Maps,
    credentials: Credentials,
    nodes: Nodes,
    table: Mutex<Table>,
    last_id: AtomicU64,
    changed: broadcast::Sender<Known>,
}

/// See the module's head; clones are the same.
#[derive(Clone, Debug)]
pub struct Circuits(Arc<Inner>);

impl Circuits {
    /// `credentials`: for networks that want some.
    pub fn new(maps: Maps, credentials: Credentials) -> Self {
        Self(Arc::new(Inner {
            maps,
            credentials,
            nodes: Nodes::default(),
            table: Mutex::default(),
            last_id: AtomicU64::new(0),
            changed: broadcast::channel(256).0,
        }))
    }

    /// The map's keeper.
    pub fn maps(&self) -> &Maps {
        &self.0.maps
    }

    /// How nodes did.
    pub fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// Circuits that came or went from now on.
    pub fn watch(&self) -> broadcast::Receiver<Known> {
        self.0.changed.subscribe()
    }

    /// Those that live, by number.
    pub fn all(&self) -> Vec<Known> {
        let mut all: Vec<_> = self.lock().circuits.values().flatten().cloned().collect();
        all.sort_by_key(|known| known.circuit.id);
        all
    }

    /// Closes one; false where there is none of that number.
    pub fn close(&self, id: u64) -> bool {
        let found = self.all().into_iter().find(|known| known.circuit.id == id);
        if let Some(known) = &found {
            known.circuit.close();
            self.tidy(Instant::now());
        }
        found.is_some()
    }

    /// Does `work` on a circuit for `want` that carries to `target`; by another where this one fails.
    ///
    /// # Errors
    /// What the far end said; else the last way's failure.
    pub async fn through<T, F>(
        &self,
        want: &Want,
        target: Option<(&Target, Transport)>,
        work: impl Fn(Arc<Circuit>) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let to = target.and_then(|(target, transport)| destination(target, transport));
        let owner = Owner::of(want, target.map(|(target, _)| target));
        let mut lessons = Lessons::default();
        let mut last = None;
        for _ in 0..TRIES {
            let circuit = match self.circuit(&owner, want, to, &mut lessons).await {
                Ok(circuit) => circuit,
                // no other exit: what this one said holds
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            match work(Arc::clone(&circuit)).await {
                Ok(done) => return Ok(done),
                Err(refusal) => {
                    match refusal.cause {
                        Cause::Policy | Cause::Limit => lessons.avoid.push(circuit.exit.id.clone()),
                        Cause::Node => circuit.drain(),
                        _ => return Err(refusal),
                    }
                    last = Some(refusal);
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Cause::NoPath, "nothing was tried")))
    }

    /// A path that would be chosen now, and the open circuit that would be used instead.
    ///
    /// # Errors
    /// Without a map, or a path in it.
    pub fn route(&self, want: &Want, target: &Target) -> Result<(Path, Option<Arc<Circuit>>), Refusal> {
        let map = self.0.maps.map()?;
        let to = destination(target, Transport::Tcp);
        let owner = Owner::of(want, Some(target));
        let open = self.lock().ready(&map, &owner, to, &[]);
        let path = self.path(&map, &owner.shape(), to, &Lessons::default())?;
        Ok((path, open))
    }

    /// A circuit of this node alone; not kept.
    ///
    /// # Errors
    /// Where there is no such node, or it cannot be reached.
    pub async fn direct(&self, node: &str) -> Result<Circuit, Refusal> {
        let map = self.0.maps.map()?;
        let found = map.nodes.iter().find(|known| known.id.0 == node);
        let node =
            found.ok_or_else(|| Refusal::new(Cause::NoPath, format!("the map has no node {node:?}")))?;
        let means = self.means(&map)?;
        circuit::build(0, std::slice::from_ref(node), &means, Instant::now() + BUILDING)
            .await
            .map_err(|error| Refusal::new(Cause::Node, error.to_string()))
    }

    /// Forgets circuits that ended, and closes those that nobody uses.
    pub fn tidy(&self, now: Instant) {
        let gone = self.lock().tidy(now);
        for known in gone {
            // nobody may be watching
            let _ = self.0.changed.send(known);
        }
    }

    async fn circuit(
        &self,
        owner: &Owner,
        want: &Want,
        to: Option<Destination>,
        lessons: &mut Lessons,
    ) -> Result<Arc<Circuit>, Refusal> {
        // without a map in time nothing is carried, also by what is there
        let map = self.0.maps.map()?;
        if let Some(circuit) = self.lock().ready(&map, owner, to, &lessons.avoid) {
            return Ok(circuit);
        }
        let turn = Arc::clone(self.lock().turns.entry(owner.clone()).or_default());
        let _mine = turn.lock().await;
        if let Some(circuit) = self.lock().ready(&map, owner, to, &lessons.avoid) {
            return Ok(circuit);
        }
        let circuit = Arc::new(self.build(&map, &owner.shape(), to, lessons).await?);
        self.give(owner, want, &circuit);
        Ok(circuit)
    }

    /// It is theirs from now on.
    fn give(&self, owner: &Owner, want: &Want, circuit: &Arc<Circuit>) {
        let known = Known {
            circuit: Arc::clone(circuit),
            app: (!owner.is_shared()).then(|| want.app.clone()),
            profile: want.profile.clone(),
            taken: Instant::now(),
        };
        let mut table = self.lock();
        table
            .circuits
            .entry(owner.clone())
            .or_default()
            .push(known.clone());
        // nobody may be watching
        let _ = self.0.changed.send(known);
    }

    /// Builds one, by another path where a node fails.
    async fn build(
        &self,
        map: &Map,
        shape: &Shape,
        to: Option<Destination>,
        lessons: &mut Lessons,
    ) -> Result<Circuit, Refusal> {
        if self.all().len() >= MOST {
            return Err(Refusal::new(
                Cause::Limit,
                format!("{MOST} circuits are open already"),
            ));
        }
        let means = self.means(map)?;
        let until = Instant::now() + BUILDING;
        let failure = |lessons: &Lessons| {
            let last = lessons.last();
            last.map(|error| Refusal::new(Cause::Node, error.to_string()))
        };
        for _ in 0..TRIES {
            if Instant::now() >= until {
                break;
            }
            // where no path is left, what happened is told, not that
            let path = self
                .path(map, shape, to, lessons)
                .map_err(|refusal| failure(lessons).unwrap_or(refusal))?;
            let find = |id: &NodeId| map.nodes.iter().find(|node| node.id == *id).cloned();
            let nodes: Vec<Node> = path.nodes.iter().filter_map(find).collect();
            let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
            match circuit::build(id, &nodes, &means, until).await {
                Ok(circuit) => return Ok(circuit),
                Err(error) => lessons.learn(error),
            }
        }
        Err(failure(lessons).unwrap_or_else(|| Refusal::new(Cause::NoPath, "no circuit")))
    }

    fn path(
        &self,
        map: &Map,
        shape: &Shape,
        to: Option<Destination>,
        lessons: &Lessons,
    ) -> Result<Path, Refusal> {
        draw(map, shape, to, lessons, &self.0.nodes, rand::random).map_err(|no| {
            let cause = match no {
                NoPath::Policy => Cause::Policy,
                _ => Cause::NoPath,
            };
            Refusal::new(cause, no.to_string())
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // nothing in here is left half done by a panic
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
