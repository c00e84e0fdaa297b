//! Which path a new circuit takes: the network's choice, without what failed a moment ago.

use std::time::Instant;

use gate17_proto::{
    map::{Map, NodeId},
    path::{self, Exit, NoPath, Path, Wanted},
};
use verdict::policy::tunnel::ExitChoice;

use super::owner::{Destination, Shape};
use crate::{circuit::BuildError, health::Nodes};

/// Paths that are drawn, until one does without what failed.
const DRAWS: usize = 16;

/// What the tries for one stream have taught.
#[derive(Clone, Debug, Default)]
pub(super) struct Lessons {
    /// Exits that said no.
    pub(super) avoid: Vec<NodeId>,
    failed: Vec<BuildError>,
}

impl Lessons {
    /// A circuit could not be built.
    pub(super) fn learn(&mut self, error: BuildError) {
        self.failed.push(error);
    }

    /// What was told last.
    pub(super) fn last(&self) -> Option<&BuildError> {
        self.failed.last()
    }

    /// Nodes that failed by themselves.
    fn alone(&self) -> impl Iterator<Item = &NodeId> {
        let alone = self.failed.iter().filter(|error| error.between.is_none());
        alone.map(|error| &error.node)
    }

    /// Whether a path goes where another one failed.
    fn repeats(&self, nodes: &[NodeId]) -> bool {
        self.failed.iter().any(|error| match &error.between {
            None => nodes.contains(&error.node),
            Some(before) => nodes
                .windows(2)
                .any(|pair| pair == [before.clone(), error.node.clone()]),
        })
    }
}

/// Draws paths for `shape` until one avoids what failed; where all do the same, the last is tried again.
///
/// # Errors
/// [`NoPath`]
pub(super) fn draw(
    map: &Map,
    shape: &Shape,
    destination: Option<Destination>,
    lessons: &Lessons,
    nodes: &Nodes,
    mut seeds: impl FnMut() -> u64,
) -> Result<Path, NoPath> {
    let now = Instant::now();
    let health = |node: &NodeId| nodes.of(node, now);
    let mut wanted = Wanted {
        hops: shape.hops.get(),
        exit: exits(map, &shape.exit),
        destination,
        guard: None,
        avoid: lessons.avoid.iter().chain(lessons.alone()).cloned().collect(),
    };
    let first = path::choose(map, &wanted, health, seeds());
    let mut path = match first {
        // too few nodes to do without those that failed: a try more is better than none
        Err(_) if wanted.avoid.len() > lessons.avoid.len() => {
            wanted.avoid.clone_from(&lessons.avoid);
            path::choose(map, &wanted, health, seeds())?
        }
        other => other?,
    };
    for _ in 0..DRAWS {
        if !lessons.repeats(&path.nodes) {
            break;
        }
        path = path::choose(map, &wanted, health, seeds())?;
    }
    Ok(path)
}

fn exits(map: &Map, choice: &ExitChoice) -> Exit {
    let ExitChoice::Among { regions, nodes } = choice else {
        return Exit::Any;
    };
    // a node, or any of a region: both as the ids that they stand for
    let admitted = map
        .nodes
        .iter()
        .filter(|node| regions.contains(&node.region) || nodes.contains(&node.id.0));
    Exit::Nodes(admitted.map(|node| node.id.clone()).collect())
}
