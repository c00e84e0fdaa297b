//! A program that talks all the time in every way it can, and what is seen of it on the host's link.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::Command,
    thread,
};

use integration::{
    Capture, NameServer, Running, Service, World,
    capture::Captured,
    eventually,
    world::{INTERNET_V4, INTERNET_V6},
};
use serde_json::json;

use crate::{
    carried::ECHO,
    circuits::{PORT, Place},
    network::{ENTRY, ENTRY_TOKEN, Network},
};

const CHATTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gate17/chatter.py");
const UDP: u16 = 7002;
/// Connections of before the profile have this port or a later one, which nobody else gets by himself (ip_local_port_range).
const BEFORE: u16 = 61_000;
/// Whom the DNS service asks for everybody else.
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 53);

pub(crate) struct Everything {
    pub(crate) place: Place,
    _names: NameServer,
    wire: Capture,
    pub(crate) chatter: Running,
    pub(crate) program: PathBuf,
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
    let records = ["192.0.2.17", "2606:17::17"].map(|address| format!("address=/secret.example/{address}"));
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
    pub(crate) fn start() -> Self {
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
        let mut port = BEFORE;
        eventually("the program is tunnelled", || {
            port = port.saturating_add(1);
            let once = format!(
                "import socket; socket.create_connection(('{INTERNET_V4}', {PORT}), 2, source_address=('', {port}))"
            );
            let _said = python(&place, &program, &["-c", &once]).output().unwrap();
            place
                .told("circuits")
                .iter()
                .any(|circuit| circuit["for"] == json!(program))
                .then_some(())
        });
        // pings for everybody; what a program says may go with its first packet
        let host = &place.world.host;
        host.sh("echo '0 100' >/proc/sys/net/ipv4/ping_group_range; echo 5 >/proc/sys/net/ipv4/tcp_fastopen");
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
        let own = place.world.link.a.v4.to_string();
        let command = python(&place, &program, &[CHATTER, &v4, &v6, &port, &udp, &device, &own]);
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
    pub(crate) fn mark(&self) -> usize {
        self.chatter.output().len()
    }

    /// All of these went well since `mark`, and none of those.
    pub(crate) fn fares(&self, what: &str, mark: usize, well: &[&str]) {
        eventually(what, || {
            let said = self.chatter.output();
            let since = said.get(mark..)?;
            let is = |kind: &&str| since.contains(&format!("\n{kind} ok\n"));
            well.iter().all(is).then_some(())
        });
    }

    /// A whole round in which nothing was answered, but on what was open before and lies in the tunnel.
    pub(crate) fn is_silent(&self, what: &str) {
        self.has_round(what, |round| {
            let mut lines = round.lines().filter(|line| !line.starts_with("long "));
            !lines.any(|line| line.ends_with(" ok"))
        });
    }

    /// A whole round that is so.
    pub(crate) fn has_round(&self, what: &str, is: impl Fn(&str) -> bool) {
        eventually(what, || {
            let said = self.chatter.output();
            let mut rounds = said.rsplit("\nround ");
            rounds.next();
            is(rounds.next()?).then_some(())
        });
    }

    /// Packets between the host and whom the program talks to, or with what it says.
    pub(crate) fn leaked(&self) -> Vec<String> {
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
            own && !is_of_before(packet) && (ends.iter().any(|end| servers.contains(end)) || holds(b"SECRET"))
        });
        let shown =
            |packet: &Captured| format!("{} to {}, protocol {}", packet.from, packet.to, packet.protocol);
        seen.iter().map(shown).collect()
    }
}

/// Whether it belongs to a connection that was begun directly, before the profile was in force: the server ends it, and is not heard.
fn is_of_before(packet: &Captured) -> bool {
    const TCP: u8 = 6;
    let header = packet
        .bytes
        .first()
        .map_or(0, |first| usize::from(first & 0xf) * 4);
    let ports = packet.bytes.get(header..header + 4).unwrap_or_default();
    packet.from.is_ipv4()
        && packet.protocol == TCP
        && ports
            .chunks_exact(2)
            .any(|port| u16::from_be_bytes([port[0], port[1]]) >= BEFORE)
}

fn python(place: &Place, program: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = place.world.host.command(program);
    command.env("PYTHONHOME", "/usr").args(arguments);
    command
}
