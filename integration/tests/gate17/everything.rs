//! A program that talks all the time in every way it can, while one part of the tunnel after another is taken away: names,
//! IPv6, sockets bound to a device, streams that were open. Everything on the host's link is captured, from the beginning to the end.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use integration::{
    Capture, NameServer, Running, Service, World,
    capture::Captured,
    eventually,
    world::{INTERNET_V4, INTERNET_V6},
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    carried::ECHO,
    circuits::{NODES, PORT, Place, output, place_of},
    network::{ENTRY, ENTRY_TOKEN, Holds, Network},
};

const CHATTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate17/chatter.py");
const UDP: u16 = 7002;
/// Whom the DNS service asks for everybody else.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 53);
/// Of a map that is still believed, since clocks may be off by a day; and no longer in so many seconds.
const SOON: i64 = 5;

struct Everything {
    place: Place,
    _names: NameServer,
    wire: Capture,
    chatter: Running,
    program: PathBuf,
    _echoes: Vec<Running>,
}

fn world() -> (World, NameServer) {
    let upstream = format!("[resolve.upstreams]\nservers = [\"udp://{UPSTREAM}\"]\n");
    let world = World::builder("g17-all")
        .config_file(ENTRY.0, ENTRY.1)
        .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
        .config_file("dns.toml", &upstream)
        .with(Service::Dns)
        .start();
    world.internet.add_address(UPSTREAM);
    for address in world.internet_addresses() {
        world.internet.echo(address, PORT);
    }
    let records = ["address=/secret.example/192.0.2.17".to_owned()];
    let names = NameServer::start(
        &world.internet,
        &[INTERNET_V4.into(), UPSTREAM.into()],
        &records,
        world.root(),
    );
    (world, names)
}

impl Drop for Everything {
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.chatter.output();
            eprintln!(
                "{}",
                said.get(said.len().saturating_sub(1000)..).unwrap_or_default()
            );
        }
    }
}

impl Everything {
    fn start() -> Self {
        let (mut world, names) = world();
        let network = Network::start(&world);
        world.start_service(Service::Gate17Entry);
        let echoes = world.internet_addresses().map(|address| {
            let mut command = world.internet.command("python3");
            command.args(["-c", ECHO, &address.to_string()]);
            Running::start_logged("echo", command, &world.root().join("echo.log"))
        });
        let place = Place { network, world };
        let program = place.world.root().join("apps/chatter");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), &program).unwrap();
        let profile = integration::profile(&program, "tunnel", "[tunnel]\nhops = 2\n");
        place.world.profile("chatter", &profile);
        // as soon as its profile is in force
        let once = format!("import socket; socket.create_connection(('{INTERNET_V4}', {PORT}), 2)");
        eventually("the program is tunnelled", || {
            let _said = python(&place, &program, &["-c", &once]).output().unwrap();
            place
                .told("circuits")
                .iter()
                .any(|circuit| circuit["for"] == json!(program))
                .then_some(())
        });
        let wire = place.world.internet.capture();
        let route = place.world.host.sh(&format!("ip route get {INTERNET_V4}"));
        let device = route
            .split_once("dev ")
            .unwrap()
            .1
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        let (port, udp) = (PORT.to_string(), UDP.to_string());
        let (v4, v6) = (INTERNET_V4.to_string(), INTERNET_V6.to_string());
        let command = python(&place, &program, &[CHATTER, &v4, &v6, &port, &udp, &device]);
        let chatter = Running::start_logged("chatter", command, &place.world.root().join("chatter.log"));
        Self {
            place,
            _names: names,
            wire,
            chatter,
            program,
            _echoes: echoes.into(),
        }
    }

    /// What it says from now on.
    fn mark(&self) -> usize {
        self.chatter.output().len()
    }

    /// All of these went well since `mark`, and none of those.
    fn fares(&self, what: &str, mark: usize, well: &[&str]) {
        eventually(what, || {
            let said = self.chatter.output();
            let since = said.get(mark..)?;
            let is = |kind: &&str| since.contains(&format!("\n{kind} ok\n"));
            well.iter().all(is).then_some(())
        });
    }

    /// A whole round in which nothing was answered, but on what was open before and lies in the tunnel.
    fn is_silent(&self, what: &str) {
        eventually(what, || {
            let said = self.chatter.output();
            let mut rounds = said.rsplit("\nround ");
            rounds.next();
            let last = rounds.next()?;
            let mut lines = last.lines().filter(|line| !line.starts_with("long "));
            (!lines.any(|line| line.ends_with(" ok"))).then_some(())
        });
    }

    /// Packets between the host and whom the program talks to, or with what it says.
    fn leaked(&self) -> Vec<String> {
        let link = &self.place.world.link.a;
        let host: [IpAddr; 2] = [link.v4.into(), link.v6.into()];
        let servers = self.place.world.internet_addresses();
        let seen = self.wire.seen(|packet| {
            let ends = [packet.from, packet.to];
            let own = ends.iter().any(|end| {
                host.contains(end) || matches!(end, IpAddr::V6(end) if end.is_unicast_link_local())
            });
            let holds = |text: &[u8]| {
                packet
                    .bytes
                    .windows(text.len())
                    .any(|octets| octets.eq_ignore_ascii_case(text))
            };
            own && (ends.iter().any(|end| servers.contains(end)) || holds(b"SECRET"))
        });
        let shown =
            |packet: &Captured| format!("{} to {}, protocol {}", packet.from, packet.to, packet.protocol);
        seen.iter().map(shown).collect()
    }
}

fn python(place: &Place, program: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = place.world.host.command(program);
    command.env("PYTHONHOME", "/usr").args(arguments);
    command
}

const ALL: [&str; 8] = [
    "long",
    "tcp4",
    "tcp6",
    "udp4",
    "udp6",
    "name",
    "name-elsewhere",
    "name-by-tcp",
];
const ALL_V4: [&str; 6] = ["long", "tcp4", "udp4", "name", "name-elsewhere", "name-by-tcp"];

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

    // and what is not tunnelled is seen: this can fail
    all.chatter.signal(Signal::KILL);
    let mut direct = all.place.world.host.command("nc");
    output(direct.args(["-z", &INTERNET_V4.to_string(), &PORT.to_string()]));
    eventually("it is seen", || (!all.leaked().is_empty()).then_some(()));
}
