//! A host without IPv6, of which the owner wants that IPv6 is reached through the tunnel (`firewall.ipv6_route`).

use std::{net::IpAddr, path::PathBuf, process::Command};

use integration::{Service, World, app::ATTEMPT, eventually, world::INTERNET_V6};

use crate::{
    carried::ECHO,
    circuits::{PORT, Place, output},
    network::{ENTRY, ENTRY_TOKEN, Network},
};

/// Prints `ok`, or the error and how many seconds it took to come.
const ATTEMPTS: &str = "
import errno, socket, sys, time
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s, begin = socket.socket(socket.AF_INET6, kind), time.monotonic()
    s.settimeout(5)
    try:
        s.connect((sys.argv[1], int(sys.argv[2 if kind == socket.SOCK_STREAM else 3])))
        for _ in range(3):
            s.send(b'SECRET\\n')
            time.sleep(0.1)
        s.recv(100)
        print('ok', end=' ')
    except OSError as error:
        print(errno.errorcode.get(error.errno, 'timeout'), round(time.monotonic() - begin), end=' ')
";
const UDP: u16 = 7002;

fn attempts(world: &World, program: &PathBuf, to: IpAddr) -> String {
    let mut command: Command = world.host.command(program);
    command.env("PYTHONHOME", "/usr").args(["-c", ATTEMPTS]);
    output(command.args([to.to_string(), PORT.to_string(), UDP.to_string()]))
        .trim()
        .to_owned()
}

#[test]
fn a_host_without_ipv6_reaches_it_through_the_tunnel_alone_and_others_hear_at_once_that_there_is_none() {
    let mut world = World::builder("g17-v4")
        .config_file(ENTRY.0, ENTRY.1)
        .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
        .config_file("interceptor.toml", "[firewall]\nipv6_route = true\n")
        .start();
    for address in world.internet_addresses() {
        world.internet.echo(address, PORT);
    }
    let mut udp = world.internet.command("python3");
    udp.args(["-c", ECHO, &INTERNET_V6.to_string()]);
    let _udp = integration::Running::start_logged("echo", udp, &world.root().join("echo.log"));
    let (own, via, device) = (world.link.a.v6, world.link.b.v6, world.link.interface.clone());
    world.host.sh(&format!(
        "ip -6 route del default; ip -6 address del {own}/64 dev {device}"
    ));
    let network = Network::start(&world);
    world.start_service(Service::Gate17Entry);
    let mut place = Place { network, world };
    let world = &place.world;
    let programs = ["tunnelled", "direct"].map(|name| {
        let path = world.root().join("apps").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
        path
    });
    let wire = world.internet.capture();
    let profile = integration::profile(&programs[0], "tunnel", "[tunnel]\nhops = 2\n");
    world.profile("tunnelled", &profile);
    eventually("it is carried, by TCP and UDP", || {
        (attempts(world, &programs[0], INTERNET_V6.into()) == "ok ok").then_some(())
    });
    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let mut call = app.call(world, (INTERNET_V6, PORT).into());
    assert!(call.echoes("hello", ATTEMPT));

    // whoever is not tunnelled has no IPv6, and tries something else at once
    let said = attempts(world, &programs[1], INTERNET_V6.into());
    let words: Vec<_> = said.split(' ').collect();
    assert_eq!(
        (words[0], words[1], words[3]),
        ("ECONNREFUSED", "0", "0"),
        "{said}"
    );
    assert_eq!(words[2], "EACCES", "{said}");
    let of_host = wire.seen(|packet| {
        let ends = [packet.from, packet.to];
        ends.contains(&INTERNET_V6.into())
            && packet.bytes.windows(6).any(|octets| octets == b"SECRET")
            && [own.into(), netlink::last_resort::SOURCE.into()]
                .iter()
                .any(|end| ends.contains(end))
    });
    assert_eq!(of_host.len(), 0, "nothing of it leaves");
    assert!(
        attempts(world, &programs[1], "::1".parse().unwrap()).contains("ECONNREFUSED"),
        "itself is itself"
    );

    // somebody who manages the network takes it away
    world
        .host
        .sh("ip -6 route flush proto 117; ip -6 address flush dev lo scope global");
    eventually("it is there again", || {
        (attempts(world, &programs[0], INTERNET_V6.into()) == "ok ok").then_some(())
    });

    // with IPv6, that is what is used; and what was tunnelled stays so
    world.host.sh(&format!(
        "ip -6 address add {own}/64 dev {device} nodad; ip -6 route add default via {via}"
    ));
    assert_eq!(attempts(world, &programs[1], INTERNET_V6.into()), "ok ok");
    assert!(call.echoes("still", ATTEMPT));
    wire.clear();
    assert_eq!(attempts(world, &programs[0], INTERNET_V6.into()), "ok ok");
    assert_eq!(
        wire.seen(|packet| packet.from == IpAddr::from(own) && packet.to == IpAddr::from(INTERNET_V6))
            .len(),
        0
    );

    // and nothing of it is left where the owner wants none, or stops
    let left = |world: &World| {
        world
            .host
            .sh("ip -6 route show table main proto 117; ip -6 address show dev lo scope global")
    };
    assert!(!left(world).is_empty());
    place.world.stop(Service::Interceptor);
    let mut cleanup = place
        .world
        .program_command(&integration::binary("portmaster-interceptor"));
    let done = cleanup.arg("--cleanup").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(left(&place.world), "");
    place.world.start_service(Service::Interceptor);
    assert!(!left(&place.world).is_empty());
    place.world.stop(Service::Interceptor);
    place.world.config_file("interceptor.toml", "");
    place.world.start_service(Service::Interceptor);
    assert_eq!(left(&place.world), "");
}
