//! What gRPC and the desktop are told alike.

use gate17_proto::target::Target;
use proto::gate17::v1::{App, ListNodesReply, PingReply, RouteReply};

use crate::{circuits::Circuits, opening::Opening, wire};

/// Why a route cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// What was asked for is no `host:port`.
    #[error("{0}")]
    Malformed(String),
    /// There is no map any more.
    #[error("{0}")]
    NoMap(String),
}

/// The map, and how its nodes do.
pub fn nodes(circuits: &Circuits) -> ListNodesReply {
    let map = circuits.maps().map();
    let nodes = map.iter().flat_map(|map| &map.nodes);
    ListNodesReply {
        map: Some(circuits.maps().told()),
        nodes: nodes.map(|node| wire::node(node, circuits.nodes())).collect(),
    }
}

/// Which path would be taken; a path that is not there is an answer as well.
///
/// # Errors
/// [`NoRoute`]
pub fn route(opening: &Opening, destination: &str, profile: &str) -> Result<RouteReply, NoRoute> {
    let target: Target = destination
        .parse()
        .map_err(|error| NoRoute::Malformed(format!("{destination:?}: {error}")))?;
    let circuits = &opening.circuits;
    let want = opening.want(App::default(), profile, "");
    let (path, open) = match circuits.route(&want, &target) {
        Ok(route) => route,
        Err(refusal) => {
            return Ok(RouteReply {
                hops: Vec::new(),
                circuit: 0,
                steps: vec![refusal.text],
            });
        }
    };
    let ids = open.as_ref().map_or(&path.nodes, |circuit| &circuit.hops);
    let map = circuits
        .maps()
        .map()
        .map_err(|refusal| NoRoute::NoMap(refusal.text))?;
    let hops = ids
        .iter()
        .filter_map(|id| map.nodes.iter().find(|node| node.id == *id));
    Ok(RouteReply {
        hops: hops.map(|node| wire::node(node, circuits.nodes())).collect(),
        circuit: open.map_or(0, |circuit| circuit.id),
        steps: path.steps,
    })
}

/// How far a node is, by a connection of its own.
pub async fn ping(circuits: &Circuits, node: &str) -> PingReply {
    let began = std::time::Instant::now();
    match circuits.direct(node).await {
        Ok(circuit) => {
            let connect = began.elapsed();
            PingReply {
                connect: connect.try_into().ok(),
                round_trip: circuit.ping().await.and_then(|time| time.try_into().ok()),
                version: circuit.exit.version.clone(),
                problem: String::new(),
            }
        }
        Err(refusal) => PingReply {
            problem: refusal.text,
            ..PingReply::default()
        },
    }
}

/// Open streams, over all circuits.
pub fn streams_now(circuits: &Circuits) -> u64 {
    let all = circuits.all();
    all.iter()
        .map(|known| {
            known
                .circuit
                .carried
                .now
                .load(std::sync::atomic::Ordering::Relaxed)
        })
        .sum()
}
