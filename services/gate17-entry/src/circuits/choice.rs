//! Which path a new circuit takes: the network's choice, by a first node that is kept, without what failed a moment ago.

use std::time::Instant;

use gate17_proto::{
    map::{Map, Node, NodeId},
    path::{self, Exit, NoPath, Path, Wanted, akin},
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
    /// Exits that are near the destination; None: all.
    pub(super) near: Option<Vec<NodeId>>,
    /// Nodes that are to stop.
    pub(super) leaving: Vec<NodeId>,
    pub(super) failed: Vec<BuildError>,
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

    /// Whether a circuit with this exit serves.
    pub(super) fn admits(&self, exit: &NodeId) -> bool {
        !self.avoid.contains(exit) && self.near.as_ref().is_none_or(|near| near.contains(exit))
    }

    /// Nodes that are better not on the path at all.
    fn shunned(&self) -> Vec<NodeId> {
        let alone = self.failed.iter().filter(|error| error.between.is_none());
        let alone = alone.map(|error| &error.node);
        alone.chain(&self.leaving).cloned().collect()
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

/// What paths are drawn from.
pub(super) struct Draw<'a> {
    pub(super) map: &'a Map,
    pub(super) shape: &'a Shape,
    pub(super) to: Option<Destination>,
    pub(super) nodes: &'a Nodes,
    /// First nodes that are kept, in their order.
    pub(super) guards: &'a [NodeId],
}

impl Draw<'_> {
    /// A path. What was learned is kept to as long as there is a path that does: first it is forgotten what is near, then
    /// what failed.
    ///
    /// # Errors
    /// [`NoPath`]
    pub(super) fn path(&self, lessons: &Lessons, seeds: &mut dyn FnMut() -> u64) -> Result<Path, NoPath> {
        let full = self.with(lessons, &lessons.shunned(), seeds);
        let anywhere = Lessons {
            near: None,
            ..lessons.clone()
        };
        full.or_else(|_| self.with(&anywhere, &lessons.shunned(), seeds))
            // too few nodes to do without those that failed: a try more is better than none
            .or_else(|_| self.with(&anywhere, &[], seeds))
    }

    fn with(
        &self,
        lessons: &Lessons,
        shunned: &[NodeId],
        seeds: &mut dyn FnMut() -> u64,
    ) -> Result<Path, NoPath> {
        let avoid: Vec<NodeId> = lessons.avoid.iter().chain(shunned).cloned().collect();
        let now = Instant::now();
        let guards = self.guards.iter().filter(|guard| {
            self.shape.hops.get() > 1 && !avoid.contains(guard) && !self.nodes.is_avoided(guard, now)
        });
        let is_well = |path: &Path| !path.nodes.iter().any(|node| self.nodes.is_avoided(node, now));
        let mut troubled = None;
        for guard in guards {
            let path = self.draws(lessons, &avoid, Some(guard), seeds);
            if let Ok(path) = path
                && path.nodes.first() == Some(guard)
                && !lessons.repeats(&path.nodes)
            {
                if is_well(&path) {
                    return Ok(path);
                }
                troubled.get_or_insert(path);
            }
        }
        let free = self.draws(lessons, &avoid, None, seeds);
        match troubled {
            // a guard may be an exit too, and leave none but one that is gone: then it gives its place up, where that helps
            Some(path) if !free.as_ref().is_ok_and(is_well) => Ok(path),
            _ => free,
        }
    }

    /// Draws until a path avoids what failed; where all do the same, the last is tried again.
    fn draws(
        &self,
        lessons: &Lessons,
        avoid: &[NodeId],
        guard: Option<&NodeId>,
        seeds: &mut dyn FnMut() -> u64,
    ) -> Result<Path, NoPath> {
        let now = Instant::now();
        let wanted = Wanted {
            hops: self.shape.hops.get(),
            exit: self.exits(lessons, guard),
            destination: self.to,
            guard: guard.cloned(),
            avoid: avoid.to_vec(),
        };
        let health = |node: &NodeId| self.nodes.of(node, now);
        let mut path = path::choose(self.map, &wanted, health, seeds())?;
        for _ in 0..DRAWS {
            if !lessons.repeats(&path.nodes) {
                break;
            }
            path = path::choose(self.map, &wanted, health, seeds())?;
        }
        Ok(path)
    }

    /// As the profile wants them: a node, or any of a region, as the ids that they stand for. A guard keeps its place at the
    /// other end.
    fn exits(&self, lessons: &Lessons, guard: Option<&NodeId>) -> Exit {
        let guard = guard.and_then(|id| self.map.nodes.iter().find(|node| node.id == *id));
        if guard.is_none() && lessons.near.is_none() && self.shape.exit == ExitChoice::Any {
            return Exit::Any;
        }
        let admitted = self.map.nodes.iter().filter(|node| {
            self.shape.exit.admits(&node.id.0, &node.region)
                && lessons.admits(&node.id)
                && guard.is_none_or(|guard| !akin(guard, node))
        });
        Exit::Nodes(admitted.map(|node| node.id.clone()).collect())
    }
}

/// Exits that carry to a destination.
pub(super) fn carrying(map: &Map, to: Destination) -> Vec<&Node> {
    use gate17_proto::exit::ExitPolicy;
    let (address, port, transport) = to;
    let carries = |node: &&Node| {
        ExitPolicy::of(node).is_ok_and(|policy| policy.check(address, port, transport).is_ok())
    };
    map.nodes.iter().filter(carries).collect()
}

#[cfg(test)]
mod tests;
