//! Maps for tests.

use gate17_proto::map::{Access, Carrier, ExitRule, KeyPin, Map, Node, NodeAddress, NodeId, Root, Secret};
use jiff::Timestamp;

/// Of so many nodes, `n0` and on, each of a family, region and network of its own, and all of them relays and exits.
pub fn map(nodes: usize) -> Map {
    Map {
        format: 1,
        network: "test".to_owned(),
        serial: 1,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::MAX,
        root: Root {
            version: 1,
            threshold: 1,
            keys: Vec::new(),
        },
        rotations: Vec::new(),
        access: Access::None,
        knock: Secret([0; 32]),
        tokens: Vec::new(),
        client_keys: Vec::new(),
        nodes: (0..nodes).map(node).collect(),
    }
}

fn node(number: usize) -> Node {
    let octet = u8::try_from(number).unwrap_or(u8::MAX);
    Node {
        id: NodeId(format!("n{number}")),
        keys: vec![KeyPin([octet; 32])],
        addresses: vec![NodeAddress {
            address: [192, octet, 2, 1].into(),
            port: 443,
            carrier: Carrier::Tls,
        }],
        name: String::new(),
        region: format!("{}a", char::from(b'a' + octet)),
        family: format!("f{number}"),
        relay: true,
        exit: vec![ExitRule {
            allow: true,
            to: "*".to_owned(),
            ports: "*".to_owned(),
        }],
        capacity: 100,
        version: String::new(),
    }
}
