//! Connections of which nobody can say whose they are: where some program is tunnelled, they do not leave as if they were
//! nobody's. And those of a profile that has just come: they travel as it says, whoever has heard of it already.

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use integration::{App, Service, World, eventually};
use proto::flow::v1::{Verdict, Why};

use crate::{
    circuits::{Place, output},
    leaks::{PORT, SOON, is_of, targets, world},
    network::server,
    stand_in::{Says, StandIn},
};

fn wait_until_direct(world: &World, app: &App, what: &str) {
    for to in targets(world) {
        eventually(what, || app.connect(world, to).connected.then_some(()));
    }
}

#[test]
fn while_nobody_can_say_whose_a_connection_is_it_does_not_leave_directly() {
    let mut world = world("g17-unsure");
    let (tunnelled, direct) = (world.app("tunnelled"), world.app("direct"));
    let entry = StandIn::start(&world, Says::Opened);
    world.profile("tunnelled", &tunnelled.profile("tunnel", ""));
    eventually("the entry is asked", || {
        tunnelled.connect(&world, targets(&world)[0]);
        (!entry.opens().is_empty()).then_some(())
    });
    wait_until_direct(&world, &direct, "others are direct");
    let events = world.events();
    world.kill(Service::Resolver);
    let wire = world.internet.capture();
    for to in targets(&world) {
        for app in [&tunnelled, &direct] {
            let attempt = app.connect(&world, to);
            assert!(!attempt.connected && attempt.took < SOON, "{to}: {attempt:?}");
        }
    }
    let event = events.wait_for("it is said why", |event| is_of(event, Why::TunnelUnsure));
    assert!(event.connection.unwrap().process.is_none());
    assert_eq!(wire.with(&world.internet_addresses()).len(), 0);

    // the owner's own word about unknown processes
    world.profile(
        "unknown",
        "[[match]]\nunknown = true\n\n[settings]\ndefault_action = \"allow\"\n",
    );
    wait_until_direct(&world, &direct, "the owner lets them out");
    world.remove_profile("unknown");
    for to in targets(&world) {
        eventually("they stay here again", || {
            (!direct.connect(&world, to).connected).then_some(())
        });
    }
    // and where nobody is tunnelled, they are as any unknown process's
    world.remove_profile("tunnelled");
    wait_until_direct(&world, &direct, "nobody is tunnelled");
    world.profile("tunnelled", &tunnelled.profile("tunnel", ""));
    world.start_service(Service::Resolver);
    wait_until_direct(&world, &direct, "programs are known again");
}

/// Each datagram by a process of its own, that is gone before anybody looks.
const GONE: &str = "
import os, socket, sys
to = (sys.argv[1], int(sys.argv[2]))
family = socket.AF_INET6 if ':' in to[0] else socket.AF_INET
for number in range(int(sys.argv[3])):
    if not os.fork():
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.sendto(b'SECRET', to)
        finally:
            os._exit(0)
    os.wait()
";

#[test]
fn a_datagram_of_a_program_that_has_ended_already_does_not_leave_directly() {
    let world = world("g17-gone");
    let path = world.root().join("apps/python-app");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
    let send = |to: SocketAddr, count: usize| {
        let mut command: Command = world.host.command(&path);
        command.env("PYTHONHOME", "/usr").args(["-c", GONE]);
        output(command.args([to.ip().to_string(), to.port().to_string(), count.to_string()]));
    };
    let entry = StandIn::start(&world, Says::Opened);
    let probe = world.app("probe");
    world.profile("app", &integration::profile(&path, "tunnel", ""));
    world.profile("probe", &probe.profile("tunnel", ""));
    eventually("the profiles are in force", || {
        probe.connect(&world, targets(&world)[0]);
        (!entry.opens().is_empty()).then_some(())
    });
    let wire = world.internet.capture();
    for to in targets(&world) {
        send(to, 200);
    }
    thread::sleep(Duration::from_millis(500));
    let left = || wire.seen(|packet| packet.bytes.windows(6).any(|octets| octets == b"SECRET"));
    assert_eq!(left().len(), 0);
    // there were such: where the owner lets them out, they leave
    world.profile(
        "unknown",
        "[[match]]\nunknown = true\n\n[settings]\ndefault_action = \"allow\"\n",
    );
    eventually("some have ended before anybody looked", || {
        send(targets(&world)[0], 50);
        (!left().is_empty()).then_some(())
    });
}

/// The interceptor and the entry hear of a new profile each by itself.
#[test]
fn the_first_connection_of_a_new_profile_travels_as_that_says() {
    let place = Place::new("g17-first");
    place
        .world
        .config_file("profiles.d/global.toml", "[tunnel]\nhops = 1\n");
    let lone = place.app("lone", "");
    place.wait_until_carried(&lone);
    assert_eq!(
        place.circuit_of(&lone).unwrap()["hops"].as_array().unwrap().len(),
        1
    );
    let events = place.world.events();
    for turn in 0..10 {
        let name = format!("app{turn}");
        let app = place.app(&name, "hops = 3\n");
        let begin = Instant::now();
        // tries while the profile comes into force: the first that is tunnelled is looked at
        let hops = eventually("it is tunnelled", || {
            let _echoed = app
                .call(&place.world, server(PORT))
                .echoes("hello", Duration::from_millis(200));
            events.all().into_iter().find_map(|event| {
                let connection = event.connection?;
                let is_ours = connection.process?.executable?.path == app.path().display().to_string();
                let tunnelled = connection.decision?.verdict() == Verdict::Tunnel;
                (is_ours && tunnelled && !connection.hops.is_empty()).then_some(connection.hops)
            })
        });
        assert_eq!(
            hops.len(),
            3,
            "turn {turn}, after {:?}: {hops:?}",
            begin.elapsed()
        );
    }
}
