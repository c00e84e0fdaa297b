//! A program that talks all the time in every way it can, while one part of the tunnel after another is taken away: names,
//! IPv6, sockets bound to a device, streams that were open. Everything on the host's link is captured, from the beginning to the end.

use std::{fs, thread, time::Duration};

use integration::{Service, eventually, world::INTERNET_V4};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    chatter::Everything,
    circuits::{NODES, PORT, output, place_of},
    network::Holds,
};

/// Of a map that is still believed, since clocks may be off by a day; and no longer in so many seconds.
const SOON: i64 = 5;
/// What is carried.
const ALL: [&str; 14] = [
    "long",
    "tcp4",
    "tcp6",
    "udp4",
    "udp6",
    "name",
    "name-elsewhere",
    "name-elsewhere6",
    "name-by-tcp",
    "name-aaaa",
    "name-https",
    "sourced-tcp",
    "sourced-udp",
    "early",
];
const ALL_V4: [&str; 8] = [
    "long",
    "tcp4",
    "udp4",
    "name",
    "name-elsewhere",
    "name-by-tcp",
    "name-aaaa",
    "early",
];
const NAMES: [&str; 6] = [
    "name",
    "name-elsewhere",
    "name-elsewhere6",
    "name-by-tcp",
    "name-aaaa",
    "name-https",
];
/// What is refused: sockets bound to a device, pings, other protocols.
const NEVER: [&str; 9] = [
    "bound-tcp",
    "bound-udp",
    "bound-tcp6",
    "bound-udp6",
    "ping",
    "ping6",
    "udp-lite",
    "sctp",
    "raw",
];

#[test]
fn nothing_of_a_program_leaves_in_the_clear_whatever_becomes_of_the_tunnel() {
    let mut all = Everything::start();
    all.fares("everything is carried", 0, &ALL);
    let host = all.place.world.link.a.v4.to_string();
    let log = || {
        fs::read_to_string(all.place.world.root().join("nameserver.log"))
            .unwrap()
            .to_lowercase()
    };
    let names: Vec<String> = log()
        .lines()
        .filter(|line| line.contains(".secret.example from"))
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 3, "the exit's resolver was asked: {names:?}");
    assert_eq!(
        names.iter().find(|line| line.ends_with(&format!(" {host}"))),
        None,
        "by an exit"
    );

    all.place.world.kill(Service::Dns);
    let mark = all.mark();
    all.fares(
        "without a DNS service, the rest is carried",
        mark,
        &["long", "tcp4", "udp6"],
    );
    all.has_round("and no name is known", |round| {
        NAMES
            .iter()
            .all(|name| !round.contains(&format!("\n{name} ok\n")))
    });
    all.place.world.start_service(Service::Dns);
    let mark = all.mark();
    all.fares("with the next one, names are known", mark, &ALL);

    all.place.world.kill(Service::Gate17Entry);
    all.is_silent("without an entry, nothing is answered");
    let mark = all.mark();
    all.place.world.start_service(Service::Gate17Entry);
    all.fares("with the next one, everything is carried", mark, &ALL);

    let circuits = all.place.told("circuits");
    let used = circuits
        .iter()
        .find(|circuit| circuit["for"] == json!(all.program) && circuit["streams_now"].as_u64() > Some(0));
    let lost = used.map_or(0, |circuit| place_of(&circuit["hops"][1]));
    all.place.network.kill(lost);
    let mark = all.mark();
    all.fares("other nodes carry", mark, &["long", "tcp4", "udp4", "name"]);
    all.place.network.start_node(&all.place.world, lost);
    println!("{} was lost", NODES[lost]);

    all.place.world.kill(Service::Interceptor);
    thread::sleep(Duration::from_secs(1));
    all.place.world.start_service(Service::Interceptor);
    let mark = all.mark();
    all.fares("with the next interceptor, everything is carried", mark, &ALL);

    all.place.world.host.sh("ip -6 route del default");
    let mark = all.mark();
    all.fares("a host without IPv6 carries the rest", mark, &ALL_V4);
    let said = all.chatter.output();
    assert!(
        said[mark..].contains("\ntcp6 E"),
        "IPv6 is an error: {}",
        &said[mark..]
    );

    all.place
        .network
        .publish(&all.place.world, 2, &Holds(-86_400 + SOON));
    eventually("the map is over", || {
        let map = all.place.told("status").remove(0)["map"].clone();
        map["problem"].as_str()?.contains("expired").then_some(())
    });
    all.is_silent("without a map, nothing is answered");
    assert_eq!(all.leaked(), [""; 0], "not one packet");
    let said = all.chatter.output();
    for kind in NEVER {
        assert!(said.contains(&format!("\n{kind} ")), "{kind} was tried");
        assert!(!said.contains(&format!("\n{kind} ok\n")), "{kind} is not carried");
    }

    // and what is not tunnelled is seen: this can fail
    all.chatter.signal(Signal::KILL);
    let mut direct = all.place.world.host.command("nc");
    output(direct.args(["-z", &INTERNET_V4.to_string(), &PORT.to_string()]));
    eventually("it is seen", || (!all.leaked().is_empty()).then_some(()));
}
