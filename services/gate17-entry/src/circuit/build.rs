//! Builds circuits. Each hop's CONNECT is followed at once by the next hop's hello, so that a circuit of `n` hops is there
//! after about `n` round trips of its path; and what goes wrong is laid at the door of whom it can be proved of.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use gate17_proto::{
    exit::ExitPolicy,
    map::{Node, NodeId},
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Carried, Circuit, Means,
    leg::{Ends, Leg},
    reach::Reach,
    watch,
};
use crate::blame::{Fault, Seen};

/// For one hop to be there.
const HOP: Duration = Duration::from_secs(8);
/// With less than this left, nothing is begun that somebody would be blamed for.
const LEAST: Duration = Duration::from_secs(2);
/// For legs that end because of another one to have ended too.
const SETTLES: Duration = Duration::from_millis(100);

/// Why a circuit could not be built.
#[derive(Clone, Debug, thiserror::Error)]
#[error("node {}: {}", node.0, fault.text)]
pub struct BuildError {
    /// The node that it is told of.
    pub node: NodeId,
    /// The one before it, where either could be the reason.
    pub between: Option<NodeId>,
    /// What was seen.
    pub fault: Fault,
}

/// Builds a circuit through `nodes`, first to last, before `until`. Whoever failed is blamed, whoever did well is eased.
///
/// # Errors
/// [`BuildError`], which names the node.
pub async fn build(id: u64, nodes: &[Node], means: &Means, until: Instant) -> Result<Circuit, BuildError> {
    let hops: Vec<NodeId> = nodes.iter().map(|node| node.id.clone()).collect();
    let built = legs(nodes, means, until).await;
    let now = Instant::now();
    let (legs, ends, began) = built.map_err(|fault| {
        means.nodes.failed(&hops, &fault, now);
        let place = |at: usize| hops.get(at).cloned();
        BuildError {
            node: place(fault.at).unwrap_or_else(|| NodeId(String::new())),
            between: fault.is_between().then(|| place(fault.at - 1)).flatten(),
            fault,
        }
    })?;
    means.nodes.stood(&hops, now);
    let exit = nodes.last().cloned().ok_or_else(|| BuildError {
        node: NodeId(String::new()),
        between: None,
        fault: Fault::new(0, Seen::NoNetwork, "no nodes"),
    })?;
    let legs: Arc<[Leg]> = legs.into();
    let circuit = Circuit {
        id,
        hops,
        // rules that cannot be read carry nowhere; no map has such
        rules: ExitPolicy::of(&exit).unwrap_or_default(),
        exit,
        built: SystemTime::now(),
        since: began,
        building: began.elapsed(),
        carried: Carried::default(),
        legs,
        nodes: means.nodes.clone(),
        reached: means.reached.clone(),
        draining: AtomicBool::new(false),
        problem: Arc::default(),
        closed: ends.closed.clone(),
    };
    tokio::spawn(watch::watch(
        Arc::clone(&circuit.legs),
        circuit.hops.clone(),
        ends,
        means.nodes.clone(),
        Arc::clone(&circuit.problem),
    ));
    Ok(circuit)
}

async fn legs(nodes: &[Node], means: &Means, until: Instant) -> Result<(Vec<Leg>, Ends, Instant), Fault> {
    let began = Instant::now();
    let ends = Ends {
        closed: CancellationToken::new(),
        broke: Arc::new(Notify::new()),
    };
    // what was begun ends with a failure
    let guard = ends.closed.clone().drop_guard();
    let mut legs: Vec<Leg> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let reach = Reach {
            before: legs.last(),
            node,
            at,
            means,
            opened: Arc::new(AtomicBool::new(false)),
        };
        let left = until.saturating_duration_since(Instant::now());
        if left < LEAST {
            return Err(Fault::new(at, Seen::NoNetwork, "the time for a circuit is over"));
        }
        let patience = HOP.min(left);
        let reached = match timeout(patience, reach.run(&ends)).await {
            Ok(Ok(leg)) => Ok(leg),
            Ok(Err(fault)) if fault.seen == Seen::Cut && at > 0 => Err(cut(&legs).await.unwrap_or(fault)),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(stalled(&legs, at, reach.is_opened(), patience).await),
        };
        legs.push(reached?);
    }
    guard.disarm();
    Ok((legs, ends, began))
}

/// The first leg that ended: those behind it ended with it.
pub(super) async fn cut(legs: &[Leg]) -> Option<Fault> {
    tokio::time::sleep(SETTLES).await;
    let ended = legs
        .iter()
        .enumerate()
        .find_map(|(at, leg)| leg.ended().map(|seen| (at, seen)));
    let (at, seen) = ended?;
    let text = match seen {
        Seen::Leaving => "it ended the connection",
        Seen::Violated => "it ended the connection with an error",
        Seen::Altered => "what came is not what it said: altered or replayed on the way",
        _ => "the connection with it broke",
    };
    Some(Fault::new(at, seen, text))
}

/// The first of `legs` that does not answer a PING.
pub(super) async fn silent(legs: &[Leg]) -> Option<Fault> {
    let answers = join_all(legs.iter().map(Leg::ping)).await;
    let at = answers.iter().position(Option::is_none)?;
    Some(Fault::new(at, Seen::Silent, "it does not answer"))
}

/// Where did it break: at one of those that are there, or behind the last of them?
async fn stalled(legs: &[Leg], at: usize, opened: bool, patience: Duration) -> Fault {
    if let Some(fault) = silent(legs).await {
        return fault;
    }
    let patience = patience.as_secs_f32();
    if at == 0 {
        return Fault::new(at, Seen::Silent, format!("not there within {patience} s"));
    }
    // that it is connected is the word of the one before alone
    let said = if opened {
        ", though the node before it says that it is connected"
    } else {
        ""
    };
    Fault::new(
        at,
        Seen::NotReached,
        format!("not there within {patience} s{said}"),
    )
}
