//! Names and the network that a host is in: what systemd-resolved and NetworkManager tell of it, told by a test on a bus of
//! its own; and what is on the wire.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::Duration,
};

use integration::{Capture, NameServer, Running, Service, World, eventually, world::INTERNET_V4};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zbus::{Connection, OwnedObjectPath, interface};

use super::stage::{Dig, Said};

const SERVER: &str = "@127.0.0.1";
/// As numbered by its kernel, in a namespace of one cable: not what anybody looks at.
const LINK: i32 = 7;
/// NetworkManager's words.
const PORTAL: u32 = 2;
const FULL: u32 = 4;

struct Resolved {
    server: Ipv4Addr,
    /// Search domains, and `~` domains for routing.
    domains: Vec<&'static str>,
}

#[interface(name = "org.freedesktop.resolve1.Manager")]
impl Resolved {
    #[zbus(property, name = "DNSEx")]
    fn dns_ex(&self) -> Vec<(i32, i32, Vec<u8>, u16, String)> {
        vec![(LINK, 2, self.server.octets().to_vec(), 53, String::new())]
    }

    #[zbus(property)]
    fn domains(&self) -> Vec<(i32, String, bool)> {
        let domain = |text: &&str| {
            let name = text.trim_start_matches('~');
            (LINK, name.to_owned(), name.len() < text.len())
        };
        self.domains.iter().map(domain).collect()
    }

    fn get_link(&self, number: i32) -> OwnedObjectPath {
        format!("/org/freedesktop/resolve1/link/_{number}")
            .try_into()
            .unwrap()
    }
}

struct Link;

#[interface(name = "org.freedesktop.resolve1.Link")]
impl Link {
    #[zbus(property)]
    fn default_route(&self) -> bool {
        true
    }
}

struct Manager(u32);

#[interface(name = "org.freedesktop.NetworkManager")]
impl Manager {
    #[zbus(property)]
    fn connectivity(&self) -> u32 {
        self.0
    }
}

/// A world whose system bus tells of one link, with its server.
struct Network {
    world: World,
    bus: Connection,
    runtime: Runtime,
    _daemon: Running,
    folder: TempDir,
}

impl Network {
    /// `settings`: all of dns.toml.
    fn new(label: &str, settings: &str, resolved: impl FnOnce(&World) -> Resolved) -> Self {
        let world = World::builder(label).config_file("dns.toml", settings).start();
        let folder = TempDir::new().unwrap();
        let address = format!("unix:path={}/bus", folder.path().display());
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "dbus-daemon",
            "--session",
            "--nofork",
        ]);
        command.args(["--nopidfile", &format!("--address={address}")]);
        let daemon = Running::start_logged("dbus-daemon", command, &folder.path().join("log"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let resolved = resolved(&world);
        let socket = folder.path().join("bus");
        eventually("the bus listens", || socket.exists().then_some(()));
        let bus = runtime.block_on(async {
            zbus::connection::Builder::address(address.as_str())
                .serve_at("/org/freedesktop/resolve1", resolved)
                .serve_at(format!("/org/freedesktop/resolve1/link/_{LINK}"), Link)
                .serve_at("/org/freedesktop/NetworkManager", Manager(PORTAL))
                .name("org.freedesktop.resolve1")
                .name("org.freedesktop.NetworkManager")
                .build()
                .await
                .unwrap()
        });
        let mut network = Self {
            world,
            bus,
            runtime,
            _daemon: daemon,
            folder,
        };
        network.begin();
        network
    }

    fn begin(&mut self) {
        let mut command = self.world.service_command(Service::Dns);
        let address = format!("unix:path={}/bus", self.folder.path().display());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
        self.world.start_as(Service::Dns, command);
        eventually("the system's server is known", || {
            let said = self.portmaster(&["upstreams", "--json"]);
            said.contains("systemd-resolved").then_some(())
        });
    }

    /// With other settings, and nothing known from before.
    fn restart(&mut self, settings: &str) {
        self.world.stop(Service::Dns);
        fs::remove_file(self.world.state_dir(Service::Dns).join("cache")).unwrap();
        self.world.config_file("dns.toml", settings);
        self.begin();
    }

    fn ask(&self, words: &[&str]) -> Said {
        Dig::new(&self.world, "/usr/bin/dig", "asks").ask(&[&[SERVER], words].concat())
    }

    fn portmaster(&self, words: &[&str]) -> String {
        let mut command = self.world.command(integration::binary("portmaster"));
        let output = command.arg("dns").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> String {
        let mut command = self.world.command(integration::binary("portmaster"));
        String::from_utf8(command.arg("status").output().unwrap().stdout).unwrap()
    }

    /// NetworkManager found something else.
    fn reaches(&self, connectivity: u32) {
        self.runtime.block_on(async {
            let server = self.bus.object_server();
            let manager = server
                .interface::<_, Manager>("/org/freedesktop/NetworkManager")
                .await
                .unwrap();
            manager.get_mut().await.0 = connectivity;
            let told = manager.get().await;
            told.connectivity_changed(manager.signal_emitter()).await.unwrap();
        });
    }
}

/// Packets for port 53, by UDP or TCP, whoever was asked.
fn in_the_clear(wire: &Capture) -> usize {
    let asks = wire.seen(|packet| {
        let to_others = !packet.to.is_loopback() && !packet.from.is_loopback();
        let ports = packet.bytes.get(22..24);
        to_others && packet.from.is_ipv4() && matches!(packet.protocol, 6 | 17) && ports == Some(&[0, 53])
    });
    asks.len()
}

fn names(world: &World, address: IpAddr, records: &[&str], folder: &str) -> NameServer {
    let folder = world.root().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let records: Vec<String> = records.iter().map(|record| (*record).to_owned()).collect();
    NameServer::start(&world.internet, &[address], &records, &folder)
}

/// Encrypted servers that prove nothing, hang, or are not there.
fn bad_servers(world: &World) -> (Running, std::net::TcpListener) {
    let folder = world.root().join("resolver");
    fs::create_dir_all(&folder).unwrap();
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    integration::certificate(&key, &certificate, "DNS:other.example");
    let settings = format!(
        "server:\n username: ''\n chroot: ''\n use-syslog: no\n do-daemonize: no\n pidfile: ''\n directory: '{}'\n \
         interface: {INTERNET_V4}@853\n interface: {INTERNET_V4}@443\n tls-port: 853\n https-port: 443\n \
         tls-service-key: '{}'\n tls-service-pem: '{}'\n access-control: 0.0.0.0/0 allow\n \
         local-data: 'fine.example A 198.51.100.66'\nremote-control:\n control-enable: no\n",
        folder.display(),
        key.display(),
        certificate.display(),
    );
    let file = folder.join("unbound.conf");
    fs::write(&file, settings).unwrap();
    let mut command = world.internet.command("unbound");
    command.arg("-c").arg(&file);
    let unbound = Running::start_logged("unbound", command, &folder.join("log"));
    eventually("it listens", || {
        world.internet.sh("ss -Hltn").contains(":853 ").then_some(())
    });
    let silent = world
        .internet
        .enter(|| std::net::TcpListener::bind((INTERNET_V4, 8853)).unwrap());
    (unbound, silent)
}

#[test]
fn whatever_becomes_of_encrypted_servers_nothing_goes_in_the_clear_unless_the_owner_says_so() {
    let mut network = Network::new("dns-clear", "", |_| Resolved {
        server: INTERNET_V4,
        domains: Vec::new(),
    });
    let certificate = network.world.root().join("resolver/certificate.pem");
    let _servers = bad_servers(&network.world);
    let server = names(
        &network.world,
        INTERNET_V4.into(),
        &["address=/fine.example/203.0.113.7"],
        "names",
    );
    let wire = network.world.internet.capture();
    // what a wire without encrypted servers sees
    assert_eq!(network.ask(&["fine.example"]).answers(), ["203.0.113.7"]);
    assert!(in_the_clear(&wire) > 0 && server.asked("fine.example") == 1);

    let one = |server: &str| {
        format!(
            "[resolve.upstreams]\ndeadline_ms = 1500\n[[resolve.upstreams.servers]]\nserver = \"{server}\"\nca_file = {certificate:?}\n"
        )
    };
    let bad = [
        (
            "a name that it cannot prove",
            one(&format!("tls://{INTERNET_V4}#dns.test.example")),
        ),
        (
            "the same over HTTPS",
            one(&format!("https://{INTERNET_V4}/dns-query#dns.test.example")),
        ),
        (
            "nobody there",
            one(&format!("tls://{INTERNET_V4}:9853#other.example")),
        ),
        (
            "nobody there over QUIC",
            one(&format!("quic://{INTERNET_V4}:9853#other.example")),
        ),
        (
            "one that says nothing",
            one(&format!("tls://{INTERNET_V4}:8853#other.example")),
        ),
        (
            "an authority of others",
            format!(
                "[resolve.upstreams]\ndeadline_ms = 1500\nservers = [\"tls://{INTERNET_V4}#other.example\"]\n"
            ),
        ),
    ];
    for (what, settings) in &bad {
        network.restart(settings);
        wire.clear();
        for transport in ["+notcp", "+tcp"] {
            let said = network.ask(&["+time=10", transport, "fine.example"]);
            assert_eq!(said.status(), "SERVFAIL", "{what}: {}", said.0);
            assert!(said.0.contains("EDE: "), "{what}: it says why: {}", said.0);
        }
        assert_eq!(in_the_clear(&wire), 0, "{what}");
    }
    assert_eq!(server.asked("fine.example"), 1, "as before");
    // the wire is watched still: what belongs to the network goes there
    let _none = network.ask(&["printer.local"]);
    assert!(in_the_clear(&wire) > 0);

    let (_, settings) = &bad[0];
    network.restart(&format!(
        "{}[[resolve.upstreams.servers]]\nserver = \"udp://{INTERNET_V4}\"\n",
        settings.replace(
            "deadline_ms = 1500",
            "deadline_ms = 1500\nplaintext_fallback = true"
        )
    ));
    let said = network.ask(&["+time=10", "fine.example"]);
    assert_eq!(said.answers(), ["203.0.113.7"], "the owner said so: {}", said.0);
}

#[test]
fn behind_a_portal_its_checks_alone_are_asked_in_the_clear_until_the_owner_opens_more() {
    const CHECK: &str = "detectportal.firefox.com";
    let settings = format!(
        "[resolve.upstreams]\ndeadline_ms = 1000\nservers = [\"tls://{INTERNET_V4}:9853#resolver.example\"]\n"
    );
    let network = Network::new("dns-portal", &settings, |_| Resolved {
        server: INTERNET_V4,
        domains: Vec::new(),
    });
    // the portal's: whatever is asked, it is the answer
    let server = names(
        &network.world,
        INTERNET_V4.into(),
        &["address=/#/203.0.113.80"],
        "names",
    );
    network.reaches(FULL);
    for _ in 0..4 {
        assert_eq!(network.ask(&["fine.example"]).status(), "SERVFAIL");
        assert_eq!(
            network.ask(&[CHECK]).status(),
            "SERVFAIL",
            "no portal is suspected"
        );
        std::thread::sleep(Duration::from_millis(700));
    }
    assert_eq!(server.asked(CHECK), 0);

    network.reaches(PORTAL);
    eventually("the check is answered by the portal", || {
        (network.ask(&[CHECK]).answers() == ["203.0.113.80"]).then_some(())
    });
    assert!(
        network.status().contains("captive-portal"),
        "{}",
        network.status()
    );
    assert!(network.portmaster(&["upstreams"]).contains("captive portal"));
    let asked = server.asked(CHECK);
    network.ask(&[CHECK]);
    assert!(server.asked(CHECK) > asked, "what a portal says is not kept");
    assert_eq!(network.ask(&["fine.example"]).status(), "SERVFAIL");
    assert_eq!(
        server.asked("fine.example"),
        0,
        "no other name was told to the portal"
    );

    // its own page needs names
    let said = network.portmaster(&["open", "5m"]);
    assert!(said.contains("in the clear"), "{said}");
    assert_eq!(network.ask(&["login.hotel.net"]).answers(), ["203.0.113.80"]);
    assert!(
        network
            .portmaster(&["upstreams"])
            .contains("all names are asked at")
    );
    network.portmaster(&["open", "0s"]);
    let said = network.ask(&["login.hotel.net"]);
    assert_eq!(said.status(), "SERVFAIL", "nothing of it was kept: {}", said.0);
    assert_eq!(server.asked("login.hotel.net"), 1);

    network.reaches(FULL);
    eventually("the portal is gone, and with it what was for it", || {
        let before = server.asked(CHECK);
        let said = network.ask(&[CHECK]);
        (said.status() == "SERVFAIL" && server.asked(CHECK) == before).then_some(())
    });
    eventually("it is told no longer", || {
        (!network.status().contains("captive-portal")).then_some(())
    });
}

#[test]
fn the_networks_own_names_go_to_its_server_whoever_was_meant_and_public_ones_do_not() {
    let settings = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n");
    let network = Network::new("dns-local", &settings, |world| Resolved {
        server: world.link.b.v4,
        domains: vec!["lan", "bank.example", "~corp.example"],
    });
    let neighbour = network.world.link.b.v4;
    let (local, private) = ("192.168.17.9", "10.17.0.9");
    let near = names(
        &network.world,
        neighbour.into(),
        &[
            &format!("address=/printer.local/{local}"),
            &format!("address=/nas.lan/{local}"),
            &format!("address=/git.corp.example/{private}"),
            "ptr-record=9.17.168.192.in-addr.arpa,printer.local",
            "address=/www.bank.example/192.0.2.66",
        ],
        "near",
    );
    let far = names(
        &network.world,
        INTERNET_V4.into(),
        &[
            "address=/www.bank.example/203.0.113.7",
            "address=/local/203.0.113.99",
            "address=/corp.example/203.0.113.99",
        ],
        "far",
    );
    // as it was asked of a server of the internet, too
    for server in ["@127.0.0.1", "@203.0.113.53"] {
        let dig = Dig::new(&network.world, "/usr/bin/dig", "asks");
        for (words, answer) in [
            (&["printer.local"][..], local),
            (&["nas.lan"], local),
            (&["git.corp.example"], private),
            (&["-x", local], "printer.local."),
            (&["www.bank.example"], "203.0.113.7"),
        ] {
            let said = dig.ask(&[&[server], words].concat());
            assert_eq!(said.answers(), [answer], "{server} {words:?}: {}", said.0);
        }
        // what the network's server wants nothing of does not exist; a failure would be asked again and again
        let said = dig.ask(&[server, "scanner.local"]);
        assert_eq!(said.status(), "NXDOMAIN", "{server}: {}", said.0);
    }
    assert_eq!(
        near.asked("www.bank.example"),
        0,
        "a network takes no public name away"
    );
    for name in [
        "printer.local",
        "scanner.local",
        "nas.lan",
        "git.corp.example",
        "9.17.168.192.in-addr.arpa",
    ] {
        assert_eq!(far.asked(name), 0, "{name} is no business of the internet");
    }
    let said = network.portmaster(&["explain", "nas.lan"]);
    assert!(
        said.contains(&format!(
            "udp://{neighbour} would be asked: the system routes its domain"
        )),
        "{said}"
    );
}
