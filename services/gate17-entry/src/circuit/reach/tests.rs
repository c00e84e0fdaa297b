use gate17_proto::map::{KeyPin, NodeId};

use super::*;

fn node(addresses: &[(&str, Carrier)]) -> Node {
    Node {
        id: NodeId("alpha".into()),
        keys: vec![KeyPin([0; 32])],
        addresses: addresses
            .iter()
            .map(|(address, carrier)| NodeAddress {
                address: address.parse().unwrap(),
                port: 443,
                carrier: *carrier,
            })
            .collect(),
        name: String::new(),
        region: "de".into(),
        family: "f".into(),
        relay: true,
        exit: Vec::new(),
        capacity: 1,
        version: String::new(),
    }
}

fn texts(addresses: &[NodeAddress]) -> Vec<String> {
    addresses
        .iter()
        .map(|address| address.address.to_string())
        .collect()
}

#[test]
fn families_take_turns_and_what_answered_last_comes_first() {
    let node = node(&[
        ("192.0.2.1", Carrier::Tls),
        ("192.0.2.2", Carrier::Tls),
        ("192.0.2.3", Carrier::Upgrade),
        ("2001:db8::1", Carrier::Tls),
    ]);
    let nodes = Nodes::default();
    let order = texts(&in_order(&node, false, &nodes));
    assert_eq!(order, ["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    nodes.answered(&node.id, false, "192.0.2.3:443".parse().unwrap());
    assert_eq!(texts(&in_order(&node, false, &nodes))[0], "192.0.2.3");
    assert_eq!(texts(&in_order(&node, true, &nodes))[0], "2001:db8::1");
}
