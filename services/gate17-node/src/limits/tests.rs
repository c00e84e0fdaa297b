use super::*;

fn bounds() -> Bounds {
    Bounds {
        streams: 3,
        streams_per_network: 2,
        ..Bounds::default()
    }
}

#[test]
fn a_network_has_its_part_and_all_together_have_theirs() {
    let limits = Limits::new(bounds());
    let (one, same) = (
        limits.client([192, 0, 2, 1].into()),
        limits.client([192, 0, 2, 77].into()),
    );
    let other = limits.client([198, 51, 100, 1].into());
    let first = one.take(Kind::Stream).unwrap();
    let _second = same.take(Kind::Stream).unwrap();
    assert!(one.take(Kind::Stream).is_none(), "a network's part");
    let _third = other.take(Kind::Stream).unwrap();
    assert!(other.take(Kind::Stream).is_none(), "all together");
    drop(first);
    assert!(other.take(Kind::Stream).is_some());
    assert!(one.take(Kind::Connection).is_some(), "each kind by itself");
}

#[test]
fn a_node_has_the_parts_of_many_clients_and_its_neighbours_have_their_own() {
    let limits = Limits::new(Bounds {
        streams: 40,
        ..bounds()
    });
    let address = [192, 0, 2, 1].into();
    let (node, neighbour) = (limits.node(address), limits.client(address));
    let held: Vec<_> = (0..2 * BY_A_NODE)
        .map_while(|_| node.take(Kind::Stream))
        .collect();
    assert_eq!(held.len(), 2 * BY_A_NODE);
    assert!(node.take(Kind::Stream).is_none());
    assert!(neighbour.take(Kind::Stream).is_some());
}

#[test]
fn who_holds_nothing_is_forgotten() {
    let limits = Limits::new(bounds());
    let client = limits.client("2001:db8::1".parse().unwrap());
    let held = client.take(Kind::Connection);
    drop(client);
    assert_eq!(limits.0.networks.lock().unwrap().len(), 1);
    drop(held);
    assert!(limits.0.networks.lock().unwrap().is_empty());
    assert_eq!(limits.count(Kind::Connection), 0);
}

#[test]
fn what_waits_is_summed_and_given_back() {
    let limits = Limits::new(Bounds {
        buffered_per_network: 1024,
        buffered: 2048,
        ..Bounds::default()
    });
    let (one, other) = (
        limits.client([192, 0, 2, 1].into()),
        limits.client([198, 51, 100, 1].into()),
    );
    let (mut first, mut second) = (one.owes(), one.owes());
    first.set(1 << 20);
    assert_eq!(first.strain(), Strain::Fair);
    second.set(1);
    assert_eq!(first.strain(), Strain::High);
    assert_eq!(
        other.owes().strain(),
        Strain::Fair,
        "another network's is its own"
    );
    second.set(3 << 20 | 1);
    assert_eq!(second.strain(), Strain::Extreme);
    assert_eq!(other.owes().strain(), Strain::High, "all together");
    drop((first, second));
    assert_eq!(one.owes().strain(), Strain::Fair);
}

#[test]
fn networks_are_24_and_48_bits() {
    let of = |text: &str| Network::of(text.parse().unwrap());
    assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.200"));
    assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
    assert_eq!(of("2001:db8:1::1"), of("2001:db8:1:ffff::1"));
    assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
    let node = |text: &str| Network::of_node(text.parse().unwrap());
    assert_ne!(of("192.0.2.1"), node("192.0.2.1"));
    assert_ne!(node("192.0.2.1"), node("192.0.2.2"));
    assert_ne!(of("2001:db8:1::1"), node("2001:db8:1::1"));
}
