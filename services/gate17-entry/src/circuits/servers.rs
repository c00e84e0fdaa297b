//! Nodes that are asked for the map.

use std::time::{Duration, Instant};

use gate17_proto::map::{Map, Node, NodeId};
use jiff::Timestamp;
use proto::gate17::v1::Cause;
use rand::seq::SliceRandom as _;
use verdict::policy::tunnel::{ExitChoice, Hops};

use super::{Circuits, choice::Lessons, owner::Shape};
use crate::{
    circuit::{self, Circuit},
    refusal::Refusal,
};

/// For one to be there.
const PATIENCE: Duration = Duration::from_secs(10);

impl Circuits {
    /// A circuit to an exit that is to be asked for the map: by a first node that is kept, so that the one who is asked does not
    /// learn who asks. None: there is no such circuit.
    pub async fn far_server(&self, asked: &[NodeId]) -> Option<Circuit> {
        let map = self.0.maps.map().ok()?;
        let shape = Shape {
            hops: Hops::new(2)?,
            exit: ExitChoice::Any,
        };
        let mut lessons = Lessons {
            avoid: asked.to_vec(),
            ..Lessons::default()
        };
        self.build(&map, &shape, None, &mut lessons).await.ok()
    }

    /// Whom to ask directly, of a map that may be over: first nodes that are kept, since they know this host already; then others by
    /// chance, those in trouble last.
    pub fn servers(&self, map: &Map, count: usize) -> Vec<Node> {
        let guards = self.guards().of(map, Timestamp::now());
        let mut nodes: Vec<Node> = map.nodes.clone();
        nodes.shuffle(&mut rand::rng());
        let now = Instant::now();
        nodes.sort_by_key(|node| {
            let kept = guards.iter().position(|guard| *guard == node.id);
            (self.0.nodes.is_avoided(&node.id, now), kept.unwrap_or(usize::MAX))
        });
        nodes.truncate(count);
        nodes
    }

    /// A circuit of that node alone, known by its keys: nobody before it could withhold the map.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn server(&self, map: &Map, node: &Node) -> Result<Circuit, Refusal> {
        let means = self.means(map)?;
        circuit::build(0, std::slice::from_ref(node), &means, Instant::now() + PATIENCE)
            .await
            .map_err(|error| Refusal::new(Cause::Node, error.to_string()))
    }
}
