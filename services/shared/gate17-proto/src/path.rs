//! Which nodes a circuit takes: a pure choice, the same for the same seed.

use std::{net::IpAddr, time::Duration};

use sha2::{Digest as _, Sha256};

use crate::{
    exit::{ExitPolicy, Transport},
    map::{Map, Node, NodeId},
    trouble::AVOIDED,
};

/// Most nodes of a path.
pub const MAX_HOPS: u8 = 5;
/// Of a node that was not measured.
const UNMEASURED: Duration = Duration::from_millis(100);

/// What a path is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// 1 to [`MAX_HOPS`].
    pub hops: u8,
    /// Where it comes out.
    pub exit: Exit,
    /// Whom the exit has to carry to; None: any exit.
    pub destination: Option<(IpAddr, u16, Transport)>,
    /// The first node, where one is kept; passed over where it does not fit.
    pub guard: Option<NodeId>,
    /// Not these.
    pub avoid: Vec<NodeId>,
}

/// Where a path comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Anywhere.
    Any,
    /// In one of these regions.
    Regions(Vec<String>),
    /// At one of these nodes.
    Nodes(Vec<NodeId>),
    /// In the destination's region where there is an exit, else anywhere.
    Near(String),
}

/// How a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// None: not measured.
    pub round_trip: Option<Duration>,
    /// [`crate::trouble::Trouble::now`].
    pub trouble: f64,
}

/// The nodes, first to last; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Each once.
    pub nodes: Vec<NodeId>,
    /// How it was chosen, in words.
    pub steps: Vec<String>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// Not 1 to 5.
    #[error("a path of {0} nodes is none: set 1 to {MAX_HOPS} hops")]
    Hops(u8),
    /// None that is wanted.
    #[error(
        "no exit of the map is in the regions, or has the names, that are wanted: change the exit of the profile"
    )]
    NoExit,
    /// None that carries there.
    #[error("no exit that is wanted carries to that destination: change the exit of the profile")]
    Policy,
    /// Not enough that are different.
    #[error("no path of {0} nodes of different families and networks: set fewer hops")]
    NoRelay(u8),
}

/// Chooses a path through `map`.
///
/// # Errors
/// [`NoPath`]
pub fn choose(
    map: &Map,
    wanted: &Wanted,
    health: impl Fn(&NodeId) -> Health,
    seed: u64,
) -> Result<Path, NoPath> {
    if !(1..=MAX_HOPS).contains(&wanted.hops) {
        return Err(NoPath::Hops(wanted.hops));
    }
    let usable = |node: &&Node| !wanted.avoid.contains(&node.id);
    let named: Vec<&Node> = exits(map, &wanted.exit).into_iter().filter(usable).collect();
    if named.is_empty() {
        return Err(NoPath::NoExit);
    }
    let mut ends: Vec<&Node> = named
        .into_iter()
        .filter(|node| carries(node, wanted.destination))
        .collect();
    if ends.is_empty() {
        return Err(NoPath::Policy);
    }
    let relays: Vec<&Node> = map
        .nodes
        .iter()
        .filter(|node| node.relay)
        .filter(usable)
        .collect();
    let mut draw = Draw { seed, count: 0 };
    // an exit may leave no relays beside it: then it is another's turn
    while !ends.is_empty() {
        let Some(place) = pick(&ends, &health, &mut draw) else {
            break;
        };
        let last = ends.swap_remove(place);
        let others = usize::from(wanted.hops) - 1;
        if let Some(mut nodes) = before(last, others, &relays, wanted, &health, &mut draw) {
            nodes.push(last);
            let steps = steps(&nodes, &health);
            let nodes = nodes.into_iter().map(|node| node.id.clone()).collect();
            return Ok(Path { nodes, steps });
        }
    }
    Err(NoPath::NoRelay(wanted.hops))
}

fn exits<'a>(map: &'a Map, exit: &Exit) -> Vec<&'a Node> {
    let all = || {
        map.nodes
            .iter()
            .filter(|node| node.exit.iter().any(|rule| rule.allow))
    };
    let within = |regions: &[String]| {
        all()
            .filter(|node| regions.contains(&node.region))
            .collect::<Vec<_>>()
    };
    match exit {
        Exit::Any => all().collect(),
        Exit::Regions(regions) => within(regions),
        Exit::Nodes(ids) => all().filter(|node| ids.contains(&node.id)).collect(),
        Exit::Near(region) => match within(std::slice::from_ref(region)) {
            near if near.is_empty() => all().collect(),
            near => near,
        },
    }
}

fn carries(node: &Node, destination: Option<(IpAddr, u16, Transport)>) -> bool {
    let Some((to, port, transport)) = destination else {
        return true;
    };
    ExitPolicy::of(node).is_ok_and(|policy| policy.check(to, port, transport).is_ok())
}

/// `count` relays that go before `last`; searched to the end, so that what can be found is found.
fn before<'a>(
    last: &'a Node,
    count: usize,
    relays: &[&'a Node],
    wanted: &Wanted,
    health: &impl Fn(&NodeId) -> Health,
    draw: &mut Draw,
) -> Option<Vec<&'a Node>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let fit: Vec<&Node> = relays.iter().copied().filter(|node| !akin(node, last)).collect();
    let guard = wanted
        .guard
        .as_ref()
        .and_then(|id| fit.iter().copied().find(|node| node.id == *id));
    let guard = guard.filter(|node| health(&node.id).trouble < AVOIDED);
    let mut tries = 1_000;
    if let Some(first) = guard {
        let rest: Vec<_> = fit.iter().copied().filter(|node| !akin(node, first)).collect();
        if let Some(rest) = different(&rest, count - 1, health, draw, &mut tries) {
            return Some([vec![first], rest].concat());
        }
    }
    different(&fit, count, health, draw, &mut tries)
}

fn different<'a>(
    from: &[&'a Node],
    count: usize,
    health: &impl Fn(&NodeId) -> Health,
    draw: &mut Draw,
    tries: &mut u32,
) -> Option<Vec<&'a Node>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let mut left = from.to_vec();
    while left.len() >= count {
        *tries = tries.checked_sub(1)?;
        let first = left.swap_remove(pick(&left, health, draw)?);
        let rest: Vec<_> = left.iter().copied().filter(|node| !akin(node, first)).collect();
        if let Some(rest) = different(&rest, count - 1, health, draw, tries) {
            return Some([vec![first], rest].concat());
        }
    }
    None
}

/// /16 of IPv4, /32 of IPv6: what is announced and moves together, as a rule, and what one party may see all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(u8, u32);

impl Network {
    /// That an address is in.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(4, address.to_bits() >> 16),
            IpAddr::V6(address) => Self(6, (address.to_bits() >> 96) as u32),
        }
    }
}

/// Of one family, or of one network of 16 bits (IPv4) or 32 (IPv6): one party may see both.
pub fn akin(one: &Node, other: &Node) -> bool {
    let networks = |node: &Node| {
        node.addresses
            .iter()
            .map(|at| Network::of(at.address))
            .collect::<Vec<_>>()
    };
    let theirs = networks(other);
    one.id == other.id || one.family == other.family || networks(one).iter().any(|ours| theirs.contains(ours))
}

/// A place in `nodes`, by weight; those in trouble only where there is no other.
fn pick(nodes: &[&Node], health: &impl Fn(&NodeId) -> Health, draw: &mut Draw) -> Option<usize> {
    let healths: Vec<_> = nodes.iter().map(|node| health(&node.id)).collect();
    let any_well = healths.iter().any(|health| health.trouble < AVOIDED);
    let weigh = |(node, health): (&&Node, &Health)| {
        if any_well && health.trouble >= AVOIDED {
            0.0
        } else {
            weight(node, *health)
        }
    };
    let weights: Vec<f64> = nodes.iter().zip(&healths).map(weigh).collect();
    let mut point = draw.next() * weights.iter().sum::<f64>();
    let hit = weights.iter().position(|weight| {
        point -= weight;
        point < 0.0
    });
    hit.or_else(|| weights.iter().rposition(|weight| *weight > 0.0))
}

/// Proportional to capacity; halved at a round trip of 100 ms; less with trouble.
fn weight(node: &Node, health: Health) -> f64 {
    let round_trip = health.round_trip.unwrap_or(UNMEASURED).as_secs_f64();
    let well = (1.0 - health.trouble).clamp(0.01, 1.0);
    // 1 Tbit/s: a node that boasts does not draw everything to itself
    node.capacity.clamp(1, 1_000_000) as f64 * well / (1.0 + round_trip / UNMEASURED.as_secs_f64())
}

fn steps(nodes: &[&Node], health: &impl Fn(&NodeId) -> Health) -> Vec<String> {
    let line = |(place, node): (usize, &&Node)| {
        let role = if place + 1 == nodes.len() { "exit" } else { "relay" };
        let health = health(&node.id);
        let far = health.round_trip.map_or("not measured".to_owned(), |time| {
            format!("{} ms", time.as_millis())
        });
        format!(
            "{role} {} in {}, of {}: {} Mbit/s, {far}, trouble {:.2}",
            node.id.0, node.region, node.family, node.capacity, health.trouble
        )
    };
    nodes.iter().enumerate().map(line).collect()
}

/// Numbers of 0 to 1, by SHA-256 of the seed and their count.
struct Draw {
    seed: u64,
    count: u64,
}

impl Draw {
    fn next(&mut self) -> f64 {
        self.count += 1;
        let digest = Sha256::new()
            .chain_update(self.seed.to_be_bytes())
            .chain_update(self.count.to_be_bytes())
            .finalize();
        let bits = digest
            .iter()
            .take(7)
            .fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
        (bits >> 3) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests;
