//! New circuits: chosen, built, and tried again by another path where one fails.

use std::{
    sync::{MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use gate17_proto::{
    map::{Map, Node, NodeId},
    path::{NoPath, Path},
};
use jiff::Timestamp;
use proto::gate17::v1::Cause;
use verdict::policy::tunnel::{ExitChoice, Hops};

use super::{
    Circuits, TRIES,
    choice::{Draw, Lessons},
    owner::{Destination, Shape},
};
use crate::{
    circuit::{self, Circuit},
    guards::Guards,
    refusal::Refusal,
};

/// For a circuit to be there, all tries together.
const BUILDING: Duration = Duration::from_secs(20);
/// Circuits at once.
const MOST: usize = 1024;

impl Circuits {
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

    /// A circuit for nobody's streams; not kept.
    ///
    /// # Errors
    /// Without a map, or a path in it.
    pub async fn lone(&self, hops: Hops, exit: ExitChoice) -> Result<Circuit, Refusal> {
        let map = self.0.maps.map()?;
        let shape = Shape { hops, exit };
        self.build(&map, &shape, None, &mut Lessons::default()).await
    }

    /// Builds one, by another path where a node fails.
    pub(super) async fn build(
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
                Ok(circuit) => {
                    self.0.figures.built(circuit.building);
                    self.keep_guard(map, &nodes);
                    return Ok(circuit);
                }
                Err(error) => {
                    self.0.figures.failed();
                    lessons.learn(error);
                }
            }
        }
        Err(failure(lessons).unwrap_or_else(|| Refusal::new(Cause::NoPath, "no circuit")))
    }

    /// A path that fits what was learned.
    pub(super) fn path(
        &self,
        map: &Map,
        shape: &Shape,
        to: Option<Destination>,
        lessons: &Lessons,
    ) -> Result<Path, Refusal> {
        let guards = self.guards().of(map, Timestamp::now());
        let draw = Draw {
            map,
            shape,
            to,
            nodes: &self.0.nodes,
            guards: &guards,
        };
        draw.path(lessons, &mut rand::random).map_err(|no| {
            let cause = match no {
                NoPath::Policy => Cause::Policy,
                _ => Cause::NoPath,
            };
            Refusal::new(cause, no.to_string())
        })
    }

    /// The first of a path is kept, where there are others behind it.
    fn keep_guard(&self, map: &Map, path: &[Node]) {
        let [first, _, ..] = path else { return };
        let mut guards = self.guards();
        if guards.keep(&first.id, map, Timestamp::now(), rand::random()) {
            self.0.guard_file.save(&guards);
        }
    }

    pub(super) fn guards(&self) -> MutexGuard<'_, Guards> {
        // nothing in here is left half done by a panic
        self.0.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
