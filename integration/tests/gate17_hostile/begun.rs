//! Callers by the thousand who begin and do not go on: they are left in time, cost a bounded amount, and shut nobody else out.

use std::net::Ipv4Addr;

use integration::{Running, eventually};

use crate::{
    harm::resident,
    place::{OPEN, Place, text},
};

/// Of a network of its own.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 117, 0, 1);

#[test]
fn callers_by_the_thousand_who_do_not_go_on_are_left_and_others_are_served() {
    let place = Place::new(&format!("{OPEN}limits.handshake = 2\n"));
    place.client.add_address(OTHER);
    let route = place.client.sh(&format!("ip route get {}", place.node.v4));
    let near = route.split_once("src ").unwrap().1.split(' ').next().unwrap();
    place.host.sh(&format!("ip route add {OTHER} via {near}"));
    for (kind, count) in [
        ("half", 3000),
        ("unanswered", 1000),
        ("silent", 1000),
        ("slow-http1", 300),
        ("slow-http2", 300),
    ] {
        let mut swarm = place.client.command("python3");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate17_hostile/swarm.py");
        swarm.args([script, &place.node.v4.to_string(), kind, &count.to_string()]);
        let log = place.folder.path().join(kind);
        let swarm = Running::start_logged(kind, swarm, &log);
        eventually("all of them have begun", || {
            swarm.output().contains("begun").then_some(())
        });
        let page = text(&place.curl(&[
            "-k",
            "--interface",
            &OTHER.to_string(),
            &format!("https://{}/", place.node.v4),
        ]));
        assert!(
            page.contains("Welcome to nginx!"),
            "{kind}, while they wait: {page}"
        );
        let kibibytes = resident(&place.process);
        eventually("they are left", || {
            swarm.output().contains(" after ").then_some(())
        });
        let said = swarm.output();
        assert!(said.contains("left after"), "{kind}: {said}");
        assert!(kibibytes < 150 << 10, "{kind}: {kibibytes} KiB");
        let page = text(&place.curl(&["-k", &format!("https://{}/", place.node.v4)]));
        assert!(
            page.contains("Welcome to nginx!"),
            "{kind}, of their own network: {page}"
        );
        println!("{kind}: {kibibytes} KiB; {}", said.replace('\n', ", "));
    }
}
