//! The whole path: a packet of a real program, its process, a decision, a mark, an event.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use integration::{Service, World, eventually, profile};
use proto::{
    flow::v1::{Direction, Verdict},
    interceptor::v1::{ConnectionEvent, EventKind},
};

/// "At once", on a machine that is busy: the network's own time-outs are five seconds here and minutes elsewhere.
const AT_ONCE: Duration = Duration::from_secs(3);

/// What events are compared by.
fn is(event: &ConnectionEvent, program: &Path, remote: IpAddr, verdict: Verdict) -> bool {
    let Some(connection) = &event.connection else {
        return false;
    };
    let octets = match remote {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let executable = connection
        .process
        .as_ref()
        .and_then(|process| process.executable.as_ref());
    executable.is_some_and(|executable| Path::new(&executable.path) == program)
        && connection
            .flow
            .as_ref()
            .is_some_and(|flow| flow.remote_address == octets)
        && connection
            .decision
            .as_ref()
            .is_some_and(|decision| decision.verdict() == verdict)
}

#[test]
fn an_allowed_app_connects_and_is_named() {
    let world = World::start("allow");
    let (app, events) = (world.app("browser"), world.events());
    for address in world.internet_addresses() {
        let server = world.internet.echo(address, 443);
        let attempt = app.connect(&world, server);
        assert!(attempt.connected, "{attempt:?}");
        let event = events.wait_for("it is allowed", |event| {
            is(event, app.path(), address, Verdict::Allow)
        });
        let connection = event.connection.unwrap();
        assert_eq!(connection.flow.as_ref().unwrap().direction(), Direction::Outgoing);
        assert_eq!(connection.flow.unwrap().remote_port, 443);
        assert!(
            !connection.decision.unwrap().source.is_empty(),
            "a decision names its rule or setting"
        );
    }
}

#[test]
fn a_denied_app_gets_an_immediate_error() {
    let world = World::builder("deny").start();
    let (app, events) = (world.app("telemetry"), world.events());
    world.profile("telemetry", &app.profile("block", ""));
    for address in world.internet_addresses() {
        let server = world.internet.echo(address, 443);
        eventually("the profile is in force", || {
            (!app.connect(&world, server).connected).then_some(())
        });
        let attempt = app.connect(&world, server);
        assert!(!attempt.connected && attempt.took < AT_ONCE, "{attempt:?}");
        assert!(!attempt.said.contains("timed out"), "{attempt:?}");
        events.wait_for("it is blocked", |event| {
            is(event, app.path(), address, Verdict::Block)
        });
    }
    // Its neighbour is not concerned.
    let other = world.app("browser");
    let server = SocketAddr::new(world.internet_addresses()[0], 443);
    assert!(other.connect(&world, server).connected);
}

#[test]
fn a_dropped_app_hears_nothing() {
    let world = World::start("drop");
    let (app, events) = (world.app("beacon"), world.events());
    world.profile("beacon", &app.profile("drop", ""));
    for address in world.internet_addresses() {
        let server = world.internet.echo(address, 443);
        eventually("the profile is in force", || {
            (!app.connect(&world, server).connected).then_some(())
        });
        let attempt = app.connect(&world, server);
        assert!(
            !attempt.connected && attempt.said.contains("timed out"),
            "{attempt:?}"
        );
        events.wait_for("it is dropped", |event| {
            is(event, app.path(), address, Verdict::Drop)
        });
    }
}

#[test]
fn established_flows_survive_an_interceptor_restart() {
    let mut world = World::start("survive");
    let app = world.app("chat");
    let mut calls: Vec<_> = world
        .internet_addresses()
        .map(|address| app.call(&world, world.internet.echo(address, 7)))
        .into_iter()
        .collect();
    for call in &mut calls {
        assert!(call.echoes("before", AT_ONCE));
    }
    world.stop(Service::Interceptor);
    for call in &mut calls {
        assert!(call.echoes("without", AT_ONCE));
    }
    world.start_service(Service::Interceptor);
    for call in &mut calls {
        assert!(call.echoes("after", AT_ONCE));
    }
}

#[test]
fn a_changed_profile_ends_live_connections_of_both_families_and_directions() {
    let world = World::start("change");
    let (app, events) = (world.app("chat"), world.events());
    let listen = "[[rule]]\naction = \"allow\"\ndirection = \"in\"\n";
    world.profile("chat", &app.profile("allow", listen));
    let mut calls = Vec::new();
    for address in world.internet_addresses() {
        let mut call = app.call(&world, world.internet.echo(address, 7));
        assert!(call.echoes("hello", AT_ONCE));
        calls.push((address, call));
    }
    // Now one that comes in: the app listens, a neighbour calls.
    let mut listener = app.command(&world);
    listener
        .args(["-l", "-k", "7777"])
        .stdin(std::process::Stdio::piped());
    let _listener = integration::Running::start("nc", listener);
    let home = SocketAddr::new(world.link.a.v4.into(), 7777);
    let mut incoming = eventually("the neighbour gets through", || {
        world
            .internet
            .enter(|| std::net::TcpStream::connect_timeout(&home, AT_ONCE))
            .ok()
    });
    events.wait_for("incoming is allowed", |event| {
        is(event, app.path(), world.link.b.v4.into(), Verdict::Allow)
    });

    world.profile("chat", &app.profile("block", ""));
    for (address, mut call) in calls {
        events.wait_for("it is blocked", |event| {
            is(event, app.path(), address, Verdict::Block) && event.kind() == EventKind::Redecided
        });
        assert!(!call.echoes("still there?", Duration::from_secs(1)));
    }
    std::io::Write::write_all(&mut incoming, b"still there?\n").unwrap();
    events.wait_for("incoming is refused", |event| {
        event.kind() == EventKind::Redecided && is(event, app.path(), world.link.b.v4.into(), Verdict::Block)
            || is(event, app.path(), world.link.b.v4.into(), Verdict::Drop)
    });
}

#[test]
fn incoming_connections_are_refused_until_a_rule_lets_them_in() {
    let world = World::start("incoming");
    let (app, events) = (world.app("server"), world.events());
    let mut command = app.command(&world);
    command.args(["-l", "-k", "8080"]);
    let _listener = integration::Running::start("nc", command);
    let call = |address: IpAddr| {
        let address = SocketAddr::new(address, 8080);
        world
            .internet
            .enter(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500)))
            .is_ok()
    };
    eventually("it listens", || {
        world
            .host
            .sh("ss -Hltn sport = 8080")
            .contains(":8080")
            .then_some(())
    });
    let neighbour = world.link.b.v4.into();
    assert!(!call(world.link.a.v4.into()));
    events.wait_for("it is refused", |event| {
        is(event, app.path(), neighbour, Verdict::Drop) || is(event, app.path(), neighbour, Verdict::Block)
    });
    world.profile(
        "server",
        &app.profile(
            "block",
            "[[rule]]\naction = \"allow\"\ndirection = \"in\"\nlocal_port = [8080]\n",
        ),
    );
    eventually("the neighbour gets in", || {
        call(world.link.a.v4.into()).then_some(())
    });
    events.wait_for("it is allowed", |event| {
        is(event, app.path(), neighbour, Verdict::Allow)
    });
}

#[test]
fn a_loopback_connection_is_decided_once() {
    let world = World::start("loop");
    let (app, events) = (world.app("local"), world.events());
    let server = world.host.echo(std::net::Ipv4Addr::LOCALHOST, 7070);
    assert!(app.connect(&world, server).connected);
    events.wait_for("it is allowed", |event| {
        is(event, app.path(), server.ip(), Verdict::Allow)
    });
    std::thread::sleep(Duration::from_millis(300));
    let to_server = |event: &&ConnectionEvent| {
        let flow = event
            .connection
            .clone()
            .unwrap_or_default()
            .flow
            .unwrap_or_default();
        event.kind() == EventKind::Decided && (flow.remote_port == 7070 || flow.local_port == 7070)
    };
    assert_eq!(events.all().iter().filter(to_server).count(), 1);
}

#[test]
fn a_process_that_exits_at_once_is_decided_all_the_same() {
    let world = World::start("exit");
    let events = world.events();
    let (server, received) = world.internet.datagrams(world.internet_addresses()[0], 9999);
    for _ in 0..50 {
        let send = format!("echo gone >/dev/udp/{}/{}", server.ip(), server.port());
        assert!(
            world
                .host
                .command("bash")
                .args(["-c", &send])
                .status()
                .unwrap()
                .success()
        );
    }
    let mut arrived = 0;
    while received.recv_timeout(Duration::from_secs(5)).is_ok() {
        arrived += 1;
        if arrived == 50 {
            break;
        }
    }
    assert_eq!(arrived, 50);
    let decided = || {
        let ours = |event: &&ConnectionEvent| {
            let flow = event
                .connection
                .clone()
                .unwrap_or_default()
                .flow
                .unwrap_or_default();
            event.kind() == EventKind::Decided && flow.remote_port == 9999
        };
        (events.all().iter().filter(ours).count() == 50).then_some(())
    };
    eventually("all of them are reported", decided);
}

#[test]
fn udp_and_ping_are_decided_like_the_rest() {
    let world = World::start("udp");
    let events = world.events();
    let dig = Path::new("/usr/bin/dig").canonicalize().unwrap();
    let ping = Path::new("/usr/bin/ping").canonicalize().unwrap();
    world.profile("dig", &profile(&dig, "block", ""));
    world.profile("ping", &profile(&ping, "block", ""));
    for address in world.internet_addresses() {
        let refused = |program: &mut Command| program.output().unwrap();
        let server = format!("@{address}");
        eventually("ping is refused", || {
            let mut command = world.host.command(&ping);
            let _output = refused(command.args(["-n", "-c", "1", "-W", "1", &address.to_string()]));
            events
                .all()
                .iter()
                .any(|event| is(event, &ping, address, Verdict::Block))
                .then_some(())
        });
        eventually("dig is refused", || {
            let mut command = world.host.command(&dig);
            let _output = refused(command.args(["+tries=1", "+time=1", &server, "example"]));
            events
                .all()
                .iter()
                .any(|event| is(event, &dig, address, Verdict::Block))
                .then_some(())
        });
    }
}
