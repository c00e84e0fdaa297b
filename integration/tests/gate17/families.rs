//! Nodes that are reached by IPv6 alone carry both families; and who shares a circuit with whom.

use std::net::{IpAddr, SocketAddr};

use integration::{App, Running, app::ATTEMPT, eventually, world::INTERNET_V6};
use serde_json::{Value, json};

use crate::{
    carried::ECHO,
    circuits::{PORT, Place, output},
    network::{ENTRY, Holds, Network, server},
};

#[test]
fn nodes_that_have_ipv6_alone_carry_both_families() {
    let place = Place::with("g17-v6", ENTRY.1, |network, world| {
        network.move_to_v6(world);
        network.publish(world, 2, &Holds(7 * 86_400));
    });
    let app = place.app("app", "hops = 3\n");
    place.wait_until_carried(&app);
    let world = &place.world;
    let servers = world.internet_addresses();
    let _echoes = servers.map(|address| {
        let mut command = world.internet.command("python3");
        command.args(["-c", ECHO, &address.to_string()]);
        Running::start_logged("echo", command, &world.root().join("echo.log"))
    });
    let wire = world.internet.capture();
    for to in [server(PORT), (INTERNET_V6, PORT).into()] {
        assert!(app.call(world, to).echoes("hello", ATTEMPT), "{to}");
    }
    for to in servers {
        eventually("a datagram comes back", || {
            datagram_returns(&place, &app, to).then_some(())
        });
    }
    let refused = app.connect(world, SocketAddr::new(INTERNET_V6.into(), 7001));
    assert!(!refused.connected, "{refused:?}");
    let host = [IpAddr::from(world.link.a.v4), world.link.a.v6.into()];
    let of_host = wire.seen(|packet| host.contains(&packet.from));
    let mut to: Vec<_> = of_host.iter().map(|packet| packet.to).collect();
    to.sort_unstable();
    to.dedup();
    // neighbours are looked for
    to.retain(|to| {
        !to.is_multicast() && ![IpAddr::from(world.link.b.v6), world.link.b.v4.into()].contains(to)
    });
    let nodes = Network::addresses_v6();
    assert!(
        to.len() == 1 && nodes.contains(&to[0]),
        "by the first node alone: {to:?}"
    );
    assert!(
        place
            .told("nodes")
            .iter()
            .any(|node| node["addresses"].to_string().contains("2a05"))
    );
    assert!(place.trouble().values().all(|trouble| *trouble < 0.1));
}

fn datagram_returns(place: &Place, app: &App, to: IpAddr) -> bool {
    let mut command = place.world.host.command("sh");
    let program = app.path().display();
    command.args(["-c", &format!("echo datagram | {program} -u -w 1 {to} 7002")]);
    output(&mut command).contains("datagram")
}

/// Numbers and exits of the circuits that a program has used.
fn used(place: &Place, app: &App) -> Vec<(u64, Value)> {
    let mut circuits = place.told("circuits");
    // the first may have been by what holds for all programs, before its profile was known
    circuits.retain(|circuit| {
        let hops = circuit["hops"].as_array().unwrap().len();
        circuit["for"] == json!(app.path()) && circuit["streams"].as_u64() > Some(0) && hops == 2
    });
    let told = circuits
        .iter()
        .map(|circuit| (circuit["id"].as_u64().unwrap(), circuit["hops"].clone()));
    told.collect()
}

#[test]
fn programs_and_sites_share_a_circuit_only_where_their_owner_says_so() {
    let place = Place::new("g17-isolated");
    let apps = ["one", "two"].map(|name| place.app(name, "hops = 2\n"));
    for app in &apps {
        place.wait_until_carried(app);
        assert!(place.echoes(app) && place.echoes(app));
    }
    let of = apps.each_ref().map(|app| used(&place, app));
    assert!(
        of.iter().all(|circuits| circuits.len() == 1),
        "each keeps its own: {of:?}"
    );
    assert_ne!(of[0][0].0, of[1][0].0, "and not the other's");

    let sites = place.app("sites", "hops = 2\nisolate = 'site'\n");
    place.wait_until_carried(&sites);
    let first = used(&place, &sites);
    let other = SocketAddr::new(INTERNET_V6.into(), PORT);
    assert!(sites.call(&place.world, other).echoes("hello", ATTEMPT));
    let both = used(&place, &sites);
    assert_eq!((first.len(), both.len()), (1, 2), "{first:?} {both:?}");
    for to in [server(PORT), other, server(PORT), other] {
        assert!(sites.call(&place.world, to).echoes("hello", ATTEMPT));
    }
    assert_eq!(used(&place, &sites), both, "a site keeps its circuit");

    // of those who share, no program is named
    let shared = ["three", "four"].map(|name| place.app(name, "hops = 2\nisolate = 'none'\n"));
    let count = |circuits: &[Value]| -> u64 {
        let streams = circuits.iter().filter(|circuit| circuit["for"].is_null());
        streams.map(|circuit| circuit["streams"].as_u64().unwrap()).sum()
    };
    for app in &shared {
        eventually("it is carried with others", || {
            let before = count(&place.told("circuits"));
            (place.echoes(app) && count(&place.told("circuits")) > before).then_some(())
        });
    }
    let mut together = place.told("circuits");
    together.retain(|circuit| circuit["for"].is_null() && circuit["streams"].as_u64() > Some(0));
    assert_eq!(together.len(), 1, "{together:?}");
}
