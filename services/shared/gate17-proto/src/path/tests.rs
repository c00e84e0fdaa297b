use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::map::{Access, Carrier, ExitRule, KeyPin, NodeAddress, Root, Secret};

fn node(number: u8, exit: bool, capacity: u64) -> Node {
    let rule = ExitRule {
        allow: true,
        to: "*".into(),
        ports: "443".into(),
    };
    Node {
        id: NodeId(format!("n{number}")),
        keys: vec![KeyPin([number; 32])],
        addresses: vec![NodeAddress {
            address: [20, number, 0, 1].into(),
            port: 443,
            carrier: Carrier::Tls,
        }],
        name: String::new(),
        region: if number.is_multiple_of(2) { "de" } else { "se" }.into(),
        family: format!("f{number}"),
        relay: true,
        exit: if exit { vec![rule] } else { Vec::new() },
        capacity,
        version: String::new(),
    }
}

fn map(nodes: Vec<Node>) -> Map {
    Map {
        format: 1,
        network: "example".into(),
        serial: 1,
        issued: jiff::Timestamp::UNIX_EPOCH,
        expires: jiff::Timestamp::UNIX_EPOCH,
        root: Root {
            version: 1,
            threshold: 1,
            keys: Vec::new(),
        },
        rotations: Vec::new(),
        access: Access::Map,
        knock: Secret([0; 32]),
        tokens: Vec::new(),
        client_keys: Vec::new(),
        nodes,
    }
}

fn wanted(hops: u8) -> Wanted {
    Wanted {
        hops,
        exit: Exit::Any,
        destination: None,
        guard: None,
        avoid: Vec::new(),
    }
}

fn well(_: &NodeId) -> Health {
    Health::default()
}

#[test]
fn nodes_are_taken_by_their_capacity() {
    let map = map(vec![node(1, true, 100), node(2, true, 300), node(3, true, 600)]);
    let mut taken: HashMap<_, u32> = HashMap::new();
    for seed in 0..10_000 {
        let path = choose(&map, &wanted(1), well, seed).unwrap();
        *taken.entry(path.nodes[0].0.clone()).or_default() += 1;
    }
    for (id, share) in [("n1", 1_000), ("n2", 3_000), ("n3", 6_000)] {
        // five standard deviations of a fair draw are at most 250
        assert!(taken[id].abs_diff(share) < 250, "{taken:?}");
    }
}

#[test]
fn exits_are_as_wanted_and_carry_there() {
    let map = map((1..=6).map(|number| node(number, number > 3, 100)).collect());
    let at = |exit, destination| {
        choose(
            &map,
            &Wanted {
                exit,
                destination,
                ..wanted(2)
            },
            well,
            3,
        )
    };
    assert_eq!(
        at(Exit::Nodes(vec![NodeId("n5".into())]), None).unwrap().nodes[1].0,
        "n5"
    );
    assert_eq!(
        at(Exit::Regions(vec!["se".into()]), None).unwrap().nodes[1].0,
        "n5"
    );
    assert_eq!(at(Exit::Near("se".into()), None).unwrap().nodes[1].0, "n5");
    assert!(at(Exit::Near("fr".into()), None).is_ok());
    assert_eq!(at(Exit::Regions(vec!["fr".into()]), None), Err(NoPath::NoExit));
    assert_eq!(
        at(Exit::Nodes(vec![NodeId("n1".into())]), None),
        Err(NoPath::NoExit)
    );
    let there = |port| Some(([8, 8, 8, 8].into(), port, Transport::Tcp));
    assert!(at(Exit::Any, there(443)).is_ok());
    assert_eq!(at(Exit::Any, there(80)), Err(NoPath::Policy));
    assert_eq!(choose(&map, &wanted(6), well, 1), Err(NoPath::Hops(6)));
}

#[test]
fn guards_stay_until_they_are_in_trouble_and_the_troubled_are_last() {
    let map = map((1..=5).map(|number| node(number, number > 3, 100)).collect());
    let guarded = Wanted {
        guard: Some(NodeId("n2".into())),
        ..wanted(3)
    };
    let ill = |id: &NodeId| Health {
        trouble: if id.0 == "n2" { 0.9 } else { 0.0 },
        round_trip: None,
    };
    for seed in 0..200 {
        assert_eq!(choose(&map, &guarded, well, seed).unwrap().nodes[0].0, "n2");
        assert!(
            !choose(&map, &guarded, ill, seed)
                .unwrap()
                .nodes
                .contains(&NodeId("n2".into()))
        );
    }
    // where there is no other, it is taken
    assert!(choose(&map, &wanted(5), ill, 1).is_ok());
}

/// How often each was taken, of so many draws.
fn taken(map: &Map, wanted: &Wanted, health: impl Fn(&NodeId) -> Health, draws: u64) -> HashMap<String, u32> {
    let mut taken: HashMap<_, u32> = HashMap::new();
    for seed in 0..draws {
        let path = choose(map, wanted, &health, seed).unwrap();
        *taken.entry(path.nodes[0].0.clone()).or_default() += 1;
    }
    taken
}

#[test]
fn nodes_are_taken_by_their_distance_and_by_how_they_did() {
    let map = map((1..=4).map(|number| node(number, true, 100)).collect());
    // 1 : 1/2 : 1/4 by distance (half at 100 ms, a quarter at 300), and as far as the second with a third of trouble
    let health = |id: &NodeId| {
        let (millis, trouble) = match id.0.as_str() {
            "n1" => (0, 0.0),
            "n2" => (100, 0.0),
            "n3" => (300, 0.0),
            _ => (100, 0.5 - f64::EPSILON),
        };
        Health {
            round_trip: Some(Duration::from_millis(millis)),
            trouble,
        }
    };
    let taken = taken(&map, &wanted(1), health, 8_000);
    for (id, share) in [("n1", 4_000), ("n2", 2_000), ("n3", 1_000), ("n4", 1_000)] {
        // five standard deviations are at most 224
        assert!(taken[id].abs_diff(share) < 224, "{taken:?}");
    }
}

#[test]
fn one_that_boasts_does_not_get_everything_and_one_of_no_capacity_gets_something() {
    let boasting = map(vec![
        node(1, true, u64::MAX),
        node(2, true, 1_000_000),
        node(3, true, 0),
    ]);
    let taken = taken(&boasting, &wanted(1), well, 8_000);
    assert!(
        taken["n1"].abs_diff(4_000) < 224 && taken["n2"].abs_diff(4_000) < 224,
        "{taken:?}"
    );
    let alone = map(vec![node(3, true, 0)]);
    assert!(choose(&alone, &wanted(1), well, 1).is_ok());
}

/// Where a node stands, as the rule has it: /16 of IPv4, /32 of IPv6.
fn parts(node: &Node) -> HashSet<String> {
    let part = |at: &NodeAddress| match at.address {
        IpAddr::V4(address) => format!("{:?}", address.octets().first_chunk::<2>()),
        IpAddr::V6(address) => format!("{:?}", address.segments().first_chunk::<2>()),
    };
    node.addresses.iter().map(part).collect()
}

/// Whether there is a path at all, by trying all.
fn is_possible(last: Option<&Node>, taken: &[&Node], hops: usize, nodes: &[Node]) -> bool {
    if hops == 0 {
        return true;
    }
    nodes.iter().any(|node| {
        let may = if last.is_none() {
            !node.exit.is_empty()
        } else {
            node.relay
        };
        let other = |before: &&Node| {
            before.id != node.id && before.family != node.family && parts(before).is_disjoint(&parts(node))
        };
        may && taken.iter().all(other) && is_possible(Some(node), &[taken, &[node]].concat(), hops - 1, nodes)
    })
}

proptest! {
    #[test]
    fn addresses_of_both_families_keep_nodes_apart_and_what_can_be_had_is_found(
        nodes in prop::collection::vec((0..4_u16, 0..4_u8, 0..5_u8, any::<[bool; 4]>()), 1..9),
        hops in 1..=4_u8,
        seed: u64,
    ) {
        let nodes: Vec<Node> = nodes.into_iter().enumerate().map(|(number, (v6, v4, family, [exit, relay, has_v4, has_v6]))| {
            let mut node = node(number as u8, exit, 100);
            (node.family, node.relay) = (format!("f{family}"), relay);
            let at = |address: IpAddr| NodeAddress { address, port: 443, carrier: Carrier::Tls };
            let v4 = at([20, v4, number as u8, 1].into());
            // the same in its first 24 bits for all of them
            let v6 = at([0x2a05, v6, number as u16, 0, 0, 0, 0, 1].into());
            node.addresses = match (has_v4, has_v6) {
                (true, true) => vec![v4, v6],
                (false, true) => vec![v6],
                _ => vec![v4],
            };
            node
        }).collect();
        let map = map(nodes.clone());
        let chosen = choose(&map, &wanted(hops), well, seed);
        prop_assert_eq!(chosen.is_ok(), is_possible(None, &[], hops.into(), &nodes), "{:?}", chosen);
        let Ok(path) = chosen else { return Ok(()) };
        let path: Vec<_> = path.nodes.iter().map(|id| nodes.iter().find(|node| node.id == *id).unwrap()).collect();
        let (last, relays) = path.split_last().unwrap();
        prop_assert!(!last.exit.is_empty() && relays.iter().all(|node| node.relay));
        for (place, one) in path.iter().enumerate() {
            for other in &path[place + 1..] {
                prop_assert!(one.family != other.family && parts(one).is_disjoint(&parts(other)));
            }
        }
    }

    #[test]
    fn an_exit_is_in_a_region_or_has_a_name_that_is_wanted(
        regions in prop::collection::vec(0..3_usize, 3..9),
        wish in 0..3_usize,
        by_name: bool,
        seed: u64,
    ) {
        let names = ["de", "se", "it"];
        let nodes: Vec<Node> = regions.iter().enumerate().map(|(number, region)| {
            let mut node = node(number as u8, number % 2 == 0, 100);
            node.region = names[*region].into();
            node
        }).collect();
        let fits = |node: &Node| !node.exit.is_empty() && if by_name { node.id.0 == format!("n{wish}") } else { node.region == names[wish] };
        let exit = if by_name { Exit::Nodes(vec![NodeId(format!("n{wish}"))]) } else { Exit::Regions(vec![names[wish].into()]) };
        let map = map(nodes.clone());
        match choose(&map, &Wanted { exit, ..wanted(2) }, well, seed) {
            Ok(path) => {
                let last = nodes.iter().find(|node| node.id == path.nodes[1]).unwrap();
                prop_assert!(fits(last));
            }
            Err(no) => {
                prop_assert_eq!(no, NoPath::NoExit);
                prop_assert!(!nodes.iter().any(fits));
            }
        }
    }

    #[test]
    fn a_path_never_has_two_that_are_akin(
        nodes in prop::collection::vec((0..6_u8, 0..6_u8, any::<bool>(), 0..1_000_u64), 1..20),
        hops in 1..=5_u8,
        seed: u64,
    ) {
        let nodes = nodes.into_iter().enumerate().map(|(number, (family, network, exit, capacity))| {
            let mut node = node(number as u8, exit, capacity);
            node.family = format!("f{family}");
            node.addresses[0].address = [20, network, number as u8, 1].into();
            node
        });
        let map = map(nodes.collect());
        let chosen = choose(&map, &wanted(hops), well, seed);
        prop_assert_eq!(&chosen, &choose(&map, &wanted(hops), well, seed));
        if let Ok(path) = chosen {
            let nodes: Vec<_> = path.nodes.iter().map(|id| map.nodes.iter().find(|node| node.id == *id).unwrap()).collect();
            prop_assert_eq!(nodes.len(), usize::from(hops));
            prop_assert!(!nodes.last().unwrap().exit.is_empty());
            let families: HashSet<_> = nodes.iter().map(|node| &node.family).collect();
            let networks: HashSet<_> = nodes.iter().map(|node| node.addresses[0].address.to_string().split('.').nth(1).unwrap().to_owned()).collect();
            prop_assert_eq!((families.len(), networks.len()), (nodes.len(), nodes.len()));
        }
    }
}
