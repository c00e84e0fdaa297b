//! The real entry and real nodes: programs reach the internet through them, and hear what the far end says.

use std::{io::Write as _, process::Stdio};

use integration::{App, Running, Service, World, app::ATTEMPT, eventually, world::INTERNET_V6};
use proto::flow::v1::{Verdict, Why};

use crate::network::{ENTRY, ENTRY_TOKEN, Holds, Network, server};

const PORT: u16 = 7000;
/// For a packet to be read by who captures.
const SEEN: std::time::Duration = std::time::Duration::from_millis(200);

struct Place {
    network: Network,
    world: World,
    app: App,
}

fn place(label: &str, tunnel: &str) -> Place {
    let mut world = World::builder(label)
        .config_file(ENTRY.0, ENTRY.1)
        .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
        .start();
    for address in world.internet_addresses() {
        world.internet.echo(address, PORT);
    }
    let network = Network::start(&world);
    world.start_service(Service::Gate17Entry);
    let app = world.app("app");
    world.profile("app", &app.profile("tunnel", tunnel));
    let place = Place { network, world, app };
    eventually("the profile is in force, and a circuit is there", || {
        place.tunnelled().then_some(())
    });
    place
}

impl Place {
    /// A line goes to the server and back, and nothing of it is seen but on its way to a node.
    fn tunnelled(&self) -> bool {
        let wire = self.world.internet.capture();
        let mut call = self.app.call(&self.world, server(PORT));
        let echoed = call.echoes("hello", ATTEMPT);
        // what passed is seen a moment later
        std::thread::sleep(SEEN);
        echoed && self.clear(&wire) == 0
    }

    /// Packets on the host's own link that go to the server. What comes from there is not counted: what went directly before the
    /// profile was in force is answered again and again, since nobody takes the answer.
    fn clear(&self, wire: &integration::Capture) -> usize {
        let host: std::net::IpAddr = self.world.link.a.v4.into();
        let servers = self.world.internet_addresses();
        let left = wire.seen(|packet| packet.from == host && servers.contains(&packet.to));
        left.len()
    }
}

/// Answers datagrams from the address that they came to.
pub(crate) const ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 7002))
while True:
    said, who = s.recvfrom(2048)
    s.sendto(said, who)
";

/// One goes there and back.
fn datagram_returns(place: &Place, to: std::net::SocketAddr) -> bool {
    let mut command = place.app.command(&place.world);
    command.args(["-u", "-w", "1", &to.ip().to_string(), &to.port().to_string()]);
    let mut running = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(b"datagram\n").unwrap();
    let said = running.wait_with_output().unwrap().stdout;
    String::from_utf8_lossy(&said).contains("datagram")
}

#[test]
fn a_program_reaches_the_internet_through_three_nodes_and_hears_what_the_far_end_says() {
    let place = place("g17-carry", "");
    let (world, app) = (&place.world, &place.app);
    let (events, wire) = (world.events(), world.internet.capture());
    let mut call = app.call(world, server(PORT));
    assert!(call.echoes("hello", ATTEMPT));
    let event = events.wait_for("it is tunnelled, by three nodes", |event| {
        event
            .connection
            .as_ref()
            .is_some_and(|connection| connection.hops.len() == 3)
    });
    let decision = event.connection.unwrap().decision.unwrap();
    assert_eq!(decision.verdict(), Verdict::Tunnel);
    let mut command = world.command(integration::binary("portmaster"));
    let said = command
        .args(["gate17", "status", "--json"])
        .output()
        .unwrap()
        .stdout;
    let status: serde_json::Value = serde_json::from_slice(&said).unwrap();
    assert!(status["streams_now"].as_u64() >= Some(1), "it is open: {status}");
    let mut v6 = app.call(world, (INTERNET_V6, PORT).into());
    assert!(
        v6.echoes("hello", ATTEMPT),
        "IPv6 goes through as well, though the nodes are at IPv4 addresses"
    );
    for to in [server(7002), (INTERNET_V6, 7002).into()] {
        let mut command = world.internet.command("python3");
        command.args(["-c", ECHO, &to.ip().to_string()]);
        let _echo = Running::start_logged("echo", command, &world.root().join("echo.log"));
        eventually("a datagram goes there and comes back", || {
            datagram_returns(&place, to).then_some(())
        });
    }
    // nobody listens there: the program hears of it, and not that its connection dies
    let attempt = app.connect(world, server(7001));
    assert!(!attempt.connected, "{attempt:?}");
    events.wait_for("the destination refused it", |event| {
        let connection = event.connection.as_ref();
        let decision = connection.and_then(|connection| connection.decision.as_ref());
        decision.is_some_and(|decision| decision.why() == Why::TunnelRefused)
    });
    assert_eq!(place.clear(&wire), 0, "nothing left in the clear");
    let nodes = Network::addresses();
    let touched = wire.seen(|packet| nodes.contains(&packet.to) && packet.from == world.link.a.v4);
    let first: std::collections::BTreeSet<_> = touched.iter().map(|packet| packet.to).collect();
    assert_eq!(
        first.len(),
        1,
        "this host is seen by the first node alone: {first:?}"
    );
}

#[test]
fn a_node_that_dies_ends_what_it_carried_and_others_take_over() {
    let mut place = place("g17-dies", "[tunnel]\nhops = 1\n");
    let wire = place.world.internet.capture();
    for victim in 0..2 {
        place.network.kill(victim);
        eventually("connections go by the nodes that are left", || {
            place.tunnelled().then_some(())
        });
    }
    assert_eq!(place.clear(&wire), 0);
    // all are gone
    place.network.kill(2);
    let attempt = place.app.connect(&place.world, server(PORT));
    assert!(!attempt.connected, "{attempt:?}");
    assert_eq!(place.clear(&wire), 0);
    place.network.start_node(&place.world, 1);
    eventually("one is back", || place.tunnelled().then_some(()));
}

#[test]
fn a_node_with_another_key_is_not_believed_and_an_expired_map_carries_nothing() {
    let mut place = place("g17-lies", "[tunnel]\nhops = 1\n");
    let wire = place.world.internet.capture();
    place.network.say_another_key(0);
    place.network.say_another_key(1);
    place.network.publish(&place.world, 2, &Holds(86_400));
    // circuits of before have their keys; new ones go to the third
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    eventually("the third carries", || place.tunnelled().then_some(()));
    place.network.say_another_key(2);
    place.network.publish(&place.world, 3, &Holds(86_400));
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    let events = place.world.events();
    // the interceptor finds the new entry a moment later, and refuses until then for another reason
    let why = eventually("it is refused, for the keys of all nodes", || {
        let attempt = place.app.connect(&place.world, server(PORT));
        assert!(!attempt.connected, "{attempt:?}");
        let connections = events.all().into_iter().filter_map(|event| event.connection);
        let mut refused = connections.filter(|connection| connection.tunnel_problem.contains("key"));
        Some(refused.next()?.decision?.why())
    });
    assert_eq!(why, Why::TunnelUnavailable);
    // three days ago
    place.network.publish(&place.world, 4, &Holds(-3 * 86_400));
    let said = eventually("the map is refused", || {
        let mut command = place.world.command(integration::binary("portmaster"));
        let output = command.args(["gate17", "status"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.contains("expired").then_some(said)
    });
    assert!(said.contains("problem"), "{said}");
    assert_eq!(place.clear(&wire), 0, "nothing left in the clear");
}
