//! Looks after a circuit that stands: measures it, finds out when it breaks, and where.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use gate17_proto::map::NodeId;

use super::{
    build::{cut, silent},
    leg::{Ends, Leg},
};
use crate::{
    blame::{Fault, Seen},
    health::Nodes,
};

/// Between two looks whether what was said has been answered by anything.
const LOOK: Duration = Duration::from_secs(4);
/// Looks, of which the last finds out whether a circuit lives, whatever was said.
const ALIVE: u32 = 5;

/// Until it ends. Whoever broke it is blamed, and all legs end with it.
pub(super) async fn watch(
    legs: Arc<[Leg]>,
    hops: Vec<NodeId>,
    ends: Ends,
    nodes: Nodes,
    problem: Arc<OnceLock<String>>,
) {
    let broken = tokio::select! {
        fault = look(&legs, &ends, &nodes) => fault,
        () = ends.closed.cancelled() => None,
    };
    if let Some(fault) = broken {
        nodes.failed(&hops, &fault, Instant::now());
        let node = hops.get(fault.at).map_or("", |node| node.0.as_str());
        // it breaks once
        let _ = problem.set(format!("node {node}: {}", fault.text));
    }
    ends.closed.cancel();
}

async fn look(legs: &[Leg], ends: &Ends, nodes: &Nodes) -> Option<Fault> {
    measure(legs, nodes).await;
    let last = legs.last()?;
    let (mut looks, mut before) = (0, (0, 0));
    loop {
        tokio::select! {
            () = ends.broke.notified() => return cut(legs).await,
            () = tokio::time::sleep(LOOK) => {}
        }
        let (heard, said) = (last.talk().heard(), last.talk().said());
        let is_unanswered = heard == before.0 && said != before.1;
        looks = (looks + 1) % ALIVE;
        if (is_unanswered || looks == 0)
            && last.ping().await.is_none()
            && let Some(fault) = silent(legs).await
        {
            return Some(fault);
        }
        before = (heard, said);
    }
}

/// What each node adds to the round trip.
async fn measure(legs: &[Leg], nodes: &Nodes) {
    let mut before = Duration::ZERO;
    for (leg, measured) in legs.iter().zip(join_all(legs.iter().map(Leg::ping)).await) {
        let Some(measured) = measured else { return };
        nodes.measured(&leg.node, measured.saturating_sub(before));
        before = measured;
    }
}

/// A circuit whose last node answers PINGs but nothing else.
pub(super) fn deaf(legs: &[Leg]) -> Fault {
    Fault::new(
        legs.len().saturating_sub(1),
        Seen::Deaf,
        "it lives, and does not answer what it is asked",
    )
}
