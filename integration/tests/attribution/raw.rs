//! Sockets without ports: ping and raw ones, which only the tables know.

use proto::resolver::v1::Miss;
use verdict::Protocol;

use crate::{
    ask::{each_way, outgoing, world},
    play::{Play, belongs, ends},
};

#[test]
fn ping_belongs_to_ping() {
    let mut world = world("ping");
    let plays = ends(&world).map(|(here, there)| {
        let mut command = world.host.command("ping");
        let family = if here.is_ipv4() { "-4" } else { "-6" };
        command.args([family, "-c", "100000", &there.to_string()]);
        let ping = Play::start(command);
        // its first line comes when its socket is there
        ping.hear();
        ping.hear();
        let (protocol, request) = if here.is_ipv4() {
            (Protocol::ICMP, 8)
        } else {
            (Protocol::ICMPV6, 128)
        };
        (outgoing(protocol, (here, 4711), (there, request << 8)), ping)
    });
    each_way(&mut world, |asker, way| {
        for (flow, ping) in &plays {
            belongs(asker, *flow, ping, way);
        }
    });
}

#[test]
fn ping_sockets_are_told_apart_by_their_identifier() {
    let mut world = world("pingsock");
    world
        .host
        .sh("echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range");
    let (here, there) = (world.link.a, world.link.b);
    let socket = |family: &str, protocol: &str| {
        let code = format!(
            "s = socket({family}, SOCK_DGRAM, getprotobyname('{protocol}')); s.bind(('', 0)); say(port(s))"
        );
        let play = Play::python(&world, &code);
        (play.number::<u16>(), play)
    };
    let (v4, v6) = ("AF_INET", "AF_INET6");
    let plays = [socket(v4, "icmp"), socket(v4, "icmp")];
    let plays6 = [socket(v6, "ipv6-icmp"), socket(v6, "ipv6-icmp")];
    // made last, and hears all ICMP: not who sends with those identifiers
    let raw = Play::python(&world, "s = socket(AF_INET, SOCK_RAW, 1); say('ready')");
    raw.hear();
    each_way(&mut world, |asker, way| {
        for (identifier, play) in &plays {
            let flow = outgoing(Protocol::ICMP, (here.v4, *identifier), (there.v4, 8 << 8));
            belongs(asker, flow, play, way);
        }
        for (identifier, play) in &plays6 {
            let flow = outgoing(Protocol::ICMPV6, (here.v6, *identifier), (there.v6, 128 << 8));
            belongs(asker, flow, play, way);
        }
    });
}

#[test]
fn raw_sockets_of_any_protocol() {
    let mut world = world("raw");
    let (here, there) = (world.link.a, world.link.b);
    let raw = |family: &str, protocol: u8| {
        let play = Play::python(
            &world,
            &format!("s = socket({family}, SOCK_RAW, {protocol}); say('ready')"),
        );
        play.hear();
        play
    };
    let (ospf, ospf6) = (raw("AF_INET", 89), raw("AF_INET6", 89));
    each_way(&mut world, |asker, way| {
        let flow = outgoing(Protocol(89), (here.v4, 0), (there.v4, 0));
        belongs(asker, flow, &ospf, way);
        let flow = outgoing(Protocol(89), (here.v6, 0), (there.v6, 0));
        belongs(asker, flow, &ospf6, way);
        let flow = outgoing(Protocol(47), (here.v4, 0), (there.v4, 0));
        assert_eq!(asker.lookup(flow), Err(Miss::NoSocket), "by {way}");
    });
}
