//! From addresses to the process: every kind of socket, by every way of looking it up.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proto::resolver::v1::Miss;
use verdict::Protocol;

use crate::{
    ask::{Asker, each_way, incoming, outgoing, world},
    play::{Play, belongs, ends},
};

const ANY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

#[test]
fn a_tcp_connection_belongs_to_its_client() {
    let mut world = world("tcp");
    let plays = ends(&world).map(|(here, there)| {
        let server = world.internet.echo(there, 443);
        let play = Play::python(
            &world,
            &format!("s = create_connection(('{there}', 443)); say(port(s))"),
        );
        let local = SocketAddr::new(here, play.number());
        (outgoing(Protocol::TCP, local, server), play)
    });
    each_way(&mut world, |asker, way| {
        for (flow, play) in &plays {
            belongs(asker, *flow, play, way);
        }
    });
}

#[test]
fn a_connection_that_is_being_opened_belongs_to_its_client() {
    let mut world = world("syn");
    // nobody answers there: the link has no such neighbour
    let silent: IpAddr = "10.17.255.9".parse().unwrap();
    world.host.sh(&format!(
        "ip route add {silent} dev {i}; ip neigh add {silent} lladdr 02:00:00:00:00:09 dev {i}",
        i = world.link.interface
    ));
    let code = format!(
        "s = socket(); s.setblocking(False)\ntry: s.connect(('{silent}', 443))\nexcept BlockingIOError: say(port(s))"
    );
    let play = Play::python(&world, &code);
    let local = SocketAddr::new(world.link.a.v4.into(), play.number());
    let flow = outgoing(Protocol::TCP, local, (silent, 443));
    each_way(&mut world, |asker, way| belongs(asker, flow, &play, way));
}

#[test]
fn udp_connected_or_not_belongs_to_its_sender() {
    let mut world = world("udp");
    let mut plays = Vec::new();
    for (here, there) in ends(&world) {
        let family = if here.is_ipv4() { "AF_INET" } else { "AF_INET6" };
        for send in [
            format!("s.connect(('{there}', 5000)); s.send(b'x')"),
            format!("s.sendto(b'x', ('{there}', 5000))"),
        ] {
            let code = format!("s = socket({family}, SOCK_DGRAM); {send}; say(port(s))");
            let play = Play::python(&world, &code);
            let local = SocketAddr::new(here, play.number());
            plays.push((outgoing(Protocol::UDP, local, (there, 5000)), play));
        }
    }
    each_way(&mut world, |asker, way| {
        for (flow, play) in &plays {
            belongs(asker, *flow, play, way);
        }
    });
}

#[test]
fn v4_through_dual_stack_sockets() {
    let mut world = world("dual");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let server = world.internet.echo(there, 443);
    let plays = [
        (
            Protocol::TCP,
            443,
            format!("s = socket(AF_INET6); s.connect(('::ffff:{there}', 443))"),
        ),
        (
            Protocol::UDP,
            5000,
            format!("s = socket(AF_INET6, SOCK_DGRAM); s.connect(('::ffff:{there}', 5000))"),
        ),
        (
            Protocol::UDP,
            5000,
            format!("s = socket(AF_INET6, SOCK_DGRAM); s.sendto(b'x', ('::ffff:{there}', 5000))"),
        ),
    ]
    .map(|(protocol, port, code)| {
        let play = Play::python(&world, &format!("{code}; say(port(s))"));
        let local = SocketAddr::new(here.into(), play.number());
        (
            outgoing(protocol, local, SocketAddr::new(server.ip(), port)),
            play,
        )
    });
    let listener = Play::python(
        &world,
        "s = create_server(('', 8080), family=AF_INET6, dualstack_ipv6=True); say('ready')",
    );
    listener.hear();
    let call = incoming(Protocol::TCP, (here, 8080), (there, 40_000));
    each_way(&mut world, |asker, way| {
        for (flow, play) in &plays {
            belongs(asker, *flow, play, way);
        }
        belongs(asker, call, &listener, way);
    });
}

#[test]
fn an_incoming_connection_belongs_to_the_listener_then_to_who_accepts() {
    let mut world = world("listen");
    for (here, there) in ends(&world) {
        let family = if here.is_ipv4() { "AF_INET" } else { "AF_INET6" };
        let mut server = Play::python(
            &world,
            &format!(
                "s = create_server(('', 8080), family={family}); say('ready'); wait()\n\
                 c, _ = s.accept()\n\
                 if os.fork() == 0: signal.pause()\n\
                 s.close(); say('accepted'); wait()"
            ),
        );
        server.hear();
        // before the first packet is let in there is only the listener
        let unseen = incoming(Protocol::TCP, (here, 8080), (there, 40_000));
        each_way(&mut world, |asker, way| belongs(asker, unseen, &server, way));
        // opened by the kernel, and not taken yet: no file, no inode
        let client = world
            .internet
            .enter(|| std::net::TcpStream::connect((here, 8080)).unwrap());
        let waiting = incoming(Protocol::TCP, (here, 8080), client.local_addr().unwrap());
        each_way(&mut world, |asker, way| belongs(asker, waiting, &server, way));
        server.go();
        server.hear();
        each_way(&mut world, |asker, way| {
            let owner = asker.lookup(waiting).unwrap();
            let family = [owner.pid, owner.parents.first().map_or(0, |parent| parent.pid)];
            assert!(family.contains(&server.pid()), "{family:?} by {way}");
        });
    }
}

#[test]
fn a_bound_address_is_preferred_to_a_wildcard() {
    let mut world = world("wild");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let bind = |address: &str| {
        let code = format!(
            "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1); s.bind(('{address}', 5353)); say('ready')"
        );
        let play = Play::python(&world, &code);
        play.hear();
        play
    };
    let (exact, any) = (bind(&here.to_string()), bind(""));
    let listen = |family: &str| {
        let play = Play::python(
            &world,
            &format!("s = create_server(('', 8080), family={family}); say('ready')"),
        );
        play.hear();
        play
    };
    let (v4, v6) = (listen("AF_INET"), listen("AF_INET6"));
    let (here6, there6) = (world.link.a.v6, world.link.b.v6);
    each_way(&mut world, |asker, way| {
        let flow = outgoing(Protocol::UDP, (here, 5353), (there, 5000));
        belongs(asker, flow, &exact, way);
        let flow = outgoing(Protocol::UDP, ([127, 0, 0, 1], 5353), ([127, 0, 0, 1], 5000));
        belongs(asker, flow, &any, way);
        let flow = incoming(Protocol::TCP, (here, 8080), (there, 5000));
        belongs(asker, flow, &v4, way);
        let flow = incoming(Protocol::TCP, (here6, 8080), (there6, 5000));
        belongs(asker, flow, &v6, way);
    });
}

#[test]
fn programs_that_share_a_port_are_told_apart_by_their_peers() {
    let mut world = world("share");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let share = |peer: u16| {
        let code = format!(
            "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)\n\
             s.bind(('', 6000)); s.connect(('{there}', {peer})); say('ready')"
        );
        let play = Play::python(&world, &code);
        play.hear();
        (outgoing(Protocol::UDP, (here, 6000), (there, peer)), play)
    };
    let plays = [share(5001), share(5002)];
    each_way(&mut world, |asker, way| {
        for (flow, play) in &plays {
            belongs(asker, *flow, play, way);
        }
    });
}

#[test]
fn programs_of_two_users_that_share_a_port_are_told_apart_by_the_packets_owner() {
    let mut world = world("users");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let share = |uid: u32| {
        let code = format!(
            "os.setuid({uid}); s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)\n\
             s.bind(('', 5353)); say('ready')"
        );
        let play = Play::python(&world, &code);
        play.hear();
        (uid, play)
    };
    let plays = [share(1001), share(1002)];
    let flow = outgoing(Protocol::UDP, (here, 5353), (there, 5353));
    each_way(&mut world, |asker, way| {
        for (uid, play) in &plays {
            let reply = asker.resolve(vec![proto::resolver::v1::ResolveRequest {
                request_id: 1,
                flow: Some(flow.into()),
                uid: Some(*uid),
                hash: false,
                ..proto::resolver::v1::ResolveRequest::default()
            }]);
            let reply = reply.into_iter().next().unwrap();
            assert_eq!(reply.socket_uid, Some(*uid), "by {way}");
            assert_eq!(reply.process.unwrap().pid, play.pid(), "by {way}");
        }
    });
}

#[test]
fn a_socket_inherited_over_fork_belongs_to_who_still_holds_it() {
    let mut world = world("fork");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let mut parent = Play::python(
        &world,
        &format!(
            "s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000))\n\
             child = os.fork()\n\
             if child == 0: signal.pause()\n\
             say(port(s)); say(child); wait(); os._exit(0)"
        ),
    );
    let (port, child): (u16, u32) = (parent.number(), parent.number());
    let flow = outgoing(Protocol::UDP, (here, port), (there, 5000));
    each_way(&mut world, |asker, way| {
        let owner = asker.owner(flow);
        assert!(owner == parent.pid() || owner == child, "{owner} by {way}");
    });
    let mut asker = Asker::start(&mut world);
    asker.owner(flow);
    parent.go();
    parent.wait();
    assert_eq!(
        asker.owner(flow),
        child,
        "the parent was remembered, and is no more"
    );
    parent.kill();
}

#[test]
fn a_socket_that_is_handed_over_belongs_to_its_new_holder() {
    let mut world = world("hand");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let mut giver = Play::python(
        &world,
        &format!(
            "ours, theirs = socketpair(AF_UNIX, SOCK_DGRAM)\n\
             child = os.fork()\n\
             if child == 0: kept = recv_fds(theirs, 1, 1); say('taken'); signal.pause()\n\
             s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000))\n\
             say(child); say(port(s)); wait(); send_fds(ours, [b'x'], [s.fileno()]); s.close()"
        ),
    );
    let (taker, port): (u32, u16) = (giver.number(), giver.number());
    let flow = outgoing(Protocol::UDP, (here, port), (there, 5000));
    let mut asker = Asker::start(&mut world);
    assert_eq!(asker.owner(flow), giver.pid());
    giver.go();
    giver.hear();
    integration::eventually("the giver has closed it", || {
        (asker.owner(flow) == taker).then_some(())
    });
}

#[test]
fn a_socket_of_a_thread_belongs_to_its_process() {
    let mut world = world("thread");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let play = Play::python(
        &world,
        &format!(
            "import threading\n\
             def work():\n  s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); say(port(s)); signal.pause()\n\
             threading.Thread(target=work).start()"
        ),
    );
    let flow = outgoing(Protocol::UDP, (here, play.number()), (there, 5000));
    each_way(&mut world, |asker, way| belongs(asker, flow, &play, way));
}

#[test]
fn the_highest_of_many_descriptors_is_found() {
    let mut world = world("many");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let play = Play::python(
        &world,
        &format!(
            "many = [open('/dev/null') for _ in range(800)]\n\
             s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); say(port(s))\n\
             for f in many: f.close()\n\
             say('closed')"
        ),
    );
    let flow = outgoing(Protocol::UDP, (here, play.number()), (there, 5000));
    play.hear();
    each_way(&mut world, |asker, way| belongs(asker, flow, &play, way));
}

#[test]
fn who_is_gone_is_a_miss_with_its_reason() {
    let mut world = world("gone");
    let (here, there) = (world.link.a.v4, world.link.b.v4);
    let server = world.internet.echo(there, 443);
    let code = format!(
        "s = socket(AF_INET, SOCK_DGRAM); s.connect(('{there}', 5000)); say(port(s))\n\
         c = create_connection(('{there}', 443)); say(port(c)); os._exit(0)"
    );
    let mut play = Play::python(&world, &code);
    let (udp, tcp): (u16, u16) = (play.number(), play.number());
    play.wait();
    each_way(&mut world, |asker, way| {
        let flow = outgoing(Protocol::UDP, (here, udp), (there, 5000));
        assert_eq!(asker.lookup(flow), Err(Miss::NoSocket), "by {way}");
        // the kernel keeps the closed connection for a minute, and nobody holds it
        let flow = outgoing(Protocol::TCP, (here, tcp), server);
        let found = asker.lookup(flow);
        assert!(
            matches!(found, Err(Miss::NoProcess | Miss::NoSocket)),
            "{found:?} by {way}"
        );
        let never = outgoing(Protocol::TCP, (ANY, 1), (ANY, 2));
        assert_eq!(asker.lookup(never), Err(Miss::NoSocket), "by {way}");
        assert_eq!(asker.pid(play.pid()), Err(Miss::NoProcess), "by {way}");
    });
}
