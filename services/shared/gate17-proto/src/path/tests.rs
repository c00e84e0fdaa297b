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

proptest! {
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
