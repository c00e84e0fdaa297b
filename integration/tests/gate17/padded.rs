//! Padding: whoever watches the link of this host sees records of few lengths, whatever is said; and what that costs.

use std::{collections::BTreeMap, net::IpAddr};

use integration::{App, Capture, Service, app::ATTEMPT, world::INTERNET_V4};

use crate::{
    circuits::{PORT, Place},
    network::{ENTRY, Network, server},
};

const GRID: usize = 1024;
/// What TLS 1.3 adds to the octets of a record: their type, and 16 of authentication (RFC 8446, section 5.2).
const ADDED: usize = 17;
const APPLICATION_DATA: u8 = 23;
const ALERT: usize = 2;
/// Octets each way of each connection between the host and its nodes, in their order.
fn streams(place: &Place, wire: &Capture) -> BTreeMap<(IpAddr, u16, IpAddr, u16), Vec<u8>> {
    let (host, nodes) = (IpAddr::from(place.world.link.a.v4), Network::addresses());
    let mut pieces: BTreeMap<_, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    let seen = wire.seen(|packet| {
        let is = |one: IpAddr, other: IpAddr| one == host && nodes.contains(&other);
        packet.protocol == 6 && (is(packet.from, packet.to) || is(packet.to, packet.from))
    });
    for packet in seen {
        let ip = usize::from(packet.bytes[0] & 15) * 4;
        let whole = usize::from(u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]));
        let tcp = &packet.bytes[ip..whole];
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let number = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let content = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if !content.is_empty() {
            let ends = (packet.from, port(0), packet.to, port(2));
            // the router has it twice
            pieces.entry(ends).or_default().insert(number, content.to_vec());
        }
    }
    pieces
        .into_iter()
        .map(|(ends, pieces)| (ends, joined(pieces)))
        .collect()
}

/// Up to the first that was not captured.
fn joined(pieces: BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut next = pieces.keys().next().copied();
    let mut octets = Vec::new();
    for (number, piece) in pieces {
        if next != Some(number) {
            break;
        }
        next = Some(number.wrapping_add(piece.len() as u32));
        octets.extend(piece);
    }
    octets
}

/// Lengths of what is in the records of application data.
fn records(mut octets: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = octets {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if *kind == APPLICATION_DATA {
            lengths.push(length - ADDED);
        }
        octets = rest.get(length..).unwrap_or_default();
    }
    lengths
}

/// Octets that went over the host's link so far, both ways.
fn moved(place: &Place) -> usize {
    let route = place.world.host.sh(&format!("ip route get {INTERNET_V4}"));
    let device = route.split_once("dev ").unwrap().1.split(' ').next().unwrap();
    let counters = format!("cat /proc/net/dev | grep {device}: | tr ':' ' '");
    let line = place.world.host.sh(&counters);
    let words: Vec<usize> = line
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap())
        .collect();
    words[0] + words[8]
}

/// While a program says fifty short lines, one after another, and then a long one; of three hops.
fn said(place: &Place, app: &App) -> [usize; 2] {
    let mut call = app.call(&place.world, server(PORT));
    assert!(call.echoes("begun", ATTEMPT));
    let before = moved(place);
    for _ in 0..50 {
        assert!(call.echoes("short", ATTEMPT));
    }
    let between = moved(place);
    assert!(call.echoes(&"long ".repeat(200_000), ATTEMPT));
    [between - before, moved(place) - between]
}

#[test]
fn who_watches_the_link_sees_lengths_of_the_grid_alone() {
    let entry = |padding: usize| format!("{}padding = {padding}\n", ENTRY.1);
    let mut place = Place::with("g17-padded", &entry(0), |_, _| {});
    let app = place.app("app", "hops = 3\n");
    place.wait_until_carried(&app);
    let plain = said(&place, &app);
    place.world.stop(Service::Gate17Entry);
    place.world.config_file("gate17-entry.toml", &entry(GRID));
    let wire = place.world.internet.capture();
    place.world.start_service(Service::Gate17Entry);
    place.wait_until_carried(&app);
    for line in [
        "a",
        "somewhat longer",
        &"a line that is as long as a message may be ".repeat(40),
    ] {
        assert!(app.call(&place.world, server(PORT)).echoes(line, ATTEMPT));
    }
    // first the handshake, and what a node says before it is asked for padding
    let mut seen = [0; 2];
    for (ends, octets) in streams(&place, &wire) {
        for (place, length) in records(&octets)
            .into_iter()
            .enumerate()
            .skip_while(|(_, length)| length % GRID != 0)
        {
            assert!(
                length % GRID == 0 || length == ALERT,
                "{ends:?}: {length} octets in record {place}"
            );
            seen[usize::from(ends.1 == 443)] += 1;
        }
    }
    assert!(
        seen.iter().all(|seen| *seen > 10),
        "{seen:?}, to nodes and from them"
    );
    drop(wire);
    let padded = said(&place, &app);
    println!(
        "octets on the link, for 50 short lines there and back, and for a million octets there and back: {plain:?} without, \
         {padded:?} with a grid of {GRID}"
    );
    assert!(padded[0] < plain[0] * 40 && padded[1] < plain[1] * 3 / 2);
}
