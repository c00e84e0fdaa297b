use aws_lc_rs::signature::Ed25519KeyPair;

use super::*;
use crate::map::{Access, Carrier, KeyPin, Node, NodeAddress, NodeId, Secret, public};

const NOW: &str = "2026-11-23T12:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn root(version: u64, threshold: usize, seeds: &[u8]) -> Root {
    let keys = seeds.iter().map(|seed| public(&key(*seed)).unwrap()).collect();
    Root {
        version,
        threshold,
        keys,
    }
}

fn node(number: u8) -> Node {
    Node {
        id: NodeId(format!("n{number}")),
        keys: vec![KeyPin([number; 32])],
        addresses: vec![NodeAddress {
            address: [198, 51, 100, number].into(),
            port: 443,
            carrier: Carrier::Tls,
        }],
        name: String::new(),
        region: "de".into(),
        family: format!("f{number}"),
        relay: true,
        exit: Vec::new(),
        capacity: 100,
        version: String::new(),
    }
}

fn map(serial: u64, root: Root) -> Map {
    Map {
        format: 1,
        network: "example".into(),
        serial,
        issued: time("2026-11-20T00:00:00Z"),
        expires: time("2026-12-20T00:00:00Z"),
        root,
        rotations: Vec::new(),
        access: Access::Map,
        knock: Secret([7; 32]),
        tokens: Vec::new(),
        client_keys: Vec::new(),
        nodes: vec![node(1), node(2)],
    }
}

fn envelope(kind: &str, value: &impl Serialize, seeds: &[u8]) -> Envelope {
    let mut envelope = Envelope::new(kind, &serde_json::to_vec(value).unwrap());
    assert!(seeds.iter().all(|seed| envelope.sign(&key(*seed))));
    envelope
}

fn signed_by(map: &Map, seeds: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&envelope(MAP_TYPE, map, seeds)).unwrap()
}

/// Two of three.
fn holder() -> Held {
    Held::new(Trust {
        network: "example".into(),
        root: root(1, 2, &[1, 2, 3]),
    })
}

fn known() -> Root {
    root(1, 2, &[1, 2, 3])
}

fn offered(held: &mut Held, map: &Map, seeds: &[u8]) -> Result<Accepted, Refused> {
    held.accept(&signed_by(map, seeds), time(NOW))
}

#[test]
fn enough_signatures_of_different_root_keys_are_needed() {
    let (mut held, map) = (holder(), map(1, known()));
    assert_eq!(offered(&mut held, &map, &[]), Err(Refused::Unsigned));
    assert_eq!(offered(&mut held, &map, &[8, 9]), Err(Refused::Unsigned));
    let few = Err(Refused::TooFew { found: 1, needed: 2 });
    assert_eq!(offered(&mut held, &map, &[1, 9]), few);
    let mut twice = envelope(MAP_TYPE, &map, &[1]);
    twice.signatures.push(twice.signatures[0].clone());
    assert_eq!(held.accept(&serde_json::to_vec(&twice).unwrap(), time(NOW)), few);
    assert!(held.latest().is_none());
    assert_eq!(offered(&mut held, &map, &[3, 1]), Ok(Accepted::New));
    assert_eq!(offered(&mut held, &map, &[1, 2]), Ok(Accepted::Same));
    assert_eq!(held.map(time(NOW)), Ok(Some(&map)));
}

#[test]
fn a_changed_payload_is_unsigned() {
    let mut envelope = envelope(MAP_TYPE, &map(1, known()), &[1, 2]);
    let other = serde_json::to_vec(&map(2, known())).unwrap();
    envelope.payload = Envelope::new(MAP_TYPE, &other).payload;
    let refused = holder().accept(&serde_json::to_vec(&envelope).unwrap(), time(NOW));
    assert_eq!(refused, Err(Refused::Unsigned));
}

#[test]
fn serials_do_not_go_back_and_say_one_thing() {
    let mut held = holder();
    offered(&mut held, &map(5, known()), &[1, 2]).unwrap();
    let back = Err(Refused::Rollback { found: 4, held: 5 });
    assert_eq!(offered(&mut held, &map(4, known()), &[1, 2]), back);
    let mut other = map(5, known());
    other.nodes.pop();
    assert_eq!(offered(&mut held, &other, &[1, 2]), Err(Refused::Differs(5)));
    let mut restored = Held::restore(holder().trust, held.envelope().unwrap()).unwrap();
    assert_eq!(offered(&mut restored, &map(4, known()), &[1, 2]), back);
}

#[test]
fn times_are_kept_but_for_a_day() {
    let octets = signed_by(&map(1, known()), &[1, 2]);
    let at = |text| holder().accept(&octets, time(text));
    assert_eq!(at("2026-12-20T23:00:00Z"), Ok(Accepted::New));
    assert!(matches!(at("2026-12-21T00:00:00Z"), Err(Refused::Expired(_))));
    assert_eq!(at("2026-11-19T01:00:00Z"), Ok(Accepted::New));
    assert!(matches!(at("2026-11-18T23:00:00Z"), Err(Refused::NotYet(_))));
    let held = Held::restore(holder().trust, &octets).unwrap();
    assert!(matches!(
        held.map(time("2027-01-01T00:00:00Z")),
        Err(Refused::Expired(_))
    ));
}

#[test]
fn roots_rotate_by_old_and_new_keys_over_several_steps() {
    let second = root(2, 2, &[3, 4, 5]);
    let third = root(3, 1, &[6]);
    let step = |root: &Root, seeds: &[u8]| {
        let rotation = Rotation {
            network: "example".into(),
            root: root.clone(),
        };
        envelope(ROOT_TYPE, &rotation, seeds)
    };
    let mut map = map(9, third.clone());
    map.rotations = vec![step(&second, &[1, 3, 4]), step(&third, &[4, 5, 6])];
    let mut held = holder();
    assert_eq!(offered(&mut held, &map, &[6]), Ok(Accepted::New));
    assert_eq!(held.trust().root, third);
    // a holder that knows it already passes over the steps
    map.serial = 10;
    assert_eq!(offered(&mut held, &map, &[6]), Ok(Accepted::New));
    // the keys before do not count any more
    map.serial = 11;
    assert_eq!(offered(&mut held, &map, &[1, 2, 3]), Err(Refused::Unsigned));
    for (first, last) in [
        (&[1_u8, 4, 5][..], &[4_u8, 5, 6][..]),
        (&[1, 2], &[4, 5, 6]),
        (&[1, 3, 4], &[4, 5]),
    ] {
        map.rotations = vec![step(&second, first), step(&third, last)];
        let refused = offered(&mut holder(), &map, &[6]);
        assert!(matches!(refused, Err(Refused::Rotation { .. })), "{refused:?}");
    }
    map.rotations = vec![step(&third, &[1, 2, 6])];
    let refused = offered(&mut holder(), &map, &[6]);
    assert!(matches!(refused, Err(Refused::Rotation { version: 3, .. })));
    map.rotations.clear();
    let refused = offered(&mut holder(), &map, &[6]);
    assert_eq!(refused, Err(Refused::Root { found: 3, known: 1 }));
}

#[test]
fn what_is_no_map_is_named() {
    let mut held = holder();
    assert!(matches!(
        held.accept(&vec![b' '; MAX_LENGTH + 1], time(NOW)),
        Err(Refused::TooLong(_))
    ));
    assert!(matches!(
        held.accept(b"{", time(NOW)),
        Err(Refused::Unreadable(_))
    ));
    let mut value = serde_json::to_value(map(1, known())).unwrap();
    value["later"] = "unknown fields are ignored".into();
    let octets = serde_json::to_vec(&envelope(MAP_TYPE, &value, &[1, 2])).unwrap();
    assert_eq!(held.accept(&octets, time(NOW)), Ok(Accepted::New));
    value["format"] = 2.into();
    let octets = serde_json::to_vec(&envelope(MAP_TYPE, &value, &[1, 2])).unwrap();
    assert_eq!(held.accept(&octets, time(NOW)), Err(Refused::Format(2)));
    let mut other = map(2, known());
    other.network = "other".into();
    assert!(matches!(
        offered(&mut held, &other, &[1, 2]),
        Err(Refused::Network { .. })
    ));
}

#[test]
fn malformed_nodes_are_named() {
    let changes: [fn(&mut Map); 6] = [
        |map| map.nodes[1].id = NodeId("n1".into()),
        |map| map.nodes[1].keys = vec![KeyPin([1; 32])],
        |map| map.nodes[1].addresses.clear(),
        |map| map.nodes[1].addresses = map.nodes[0].addresses.clone(),
        |map| map.nodes[1].id = NodeId("N 2".into()),
        |map| {
            map.nodes[1].exit = vec![crate::map::ExitRule {
                allow: true,
                to: "*".into(),
                ports: "9-1".into(),
            }];
        },
    ];
    for change in changes {
        let mut map = map(1, known());
        change(&mut map);
        let refused = offered(&mut holder(), &map, &[1, 2]);
        assert!(matches!(refused, Err(Refused::Malformed(_))), "{refused:?}");
    }
}
