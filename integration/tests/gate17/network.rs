//! A Gate17 network on the internet of a world: real nodes, each at an address of its own, and a signed map.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::map::{Envelope, MAP_TYPE, public};
use integration::{Link, Namespace, Running, World, binary, eventually};
use serde_json::{Value, json};

/// Each in a /16 of its own.
const ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(5, 17, 0, 1),
    Ipv4Addr::new(6, 17, 0, 1),
    Ipv4Addr::new(7, 17, 0, 1),
];
/// Each in a /32 of its own; for tests that want them.
const ADDRESSES_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2a05, 0x17, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2a06, 0x17, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2a07, 0x17, 0, 0, 0, 0, 0, 1),
];
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
const REGIONS: [&str; 3] = ["de", "fr", "it"];
const PORT: u16 = 443;
const TOKEN: &str = "let-me-in";

pub(crate) struct Network {
    nodes: Vec<Option<Running>>,
    hosts: Vec<Namespace>,
    links: Vec<Link>,
    key: Ed25519KeyPair,
    described: Vec<Value>,
    /// What its maps say besides.
    said: Vec<(&'static str, Value)>,
}

/// The second of its life that a map ends in, from now.
pub(crate) struct Holds(pub(crate) i64);

impl Network {
    /// Three nodes; the world has their map, and trusts its key.
    pub(crate) fn start(world: &World) -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let mut network = Self {
            nodes: Vec::new(),
            hosts: Vec::new(),
            links: Vec::new(),
            key,
            described: Vec::new(),
            said: Vec::new(),
        };
        world.internet.sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        for place in 0..NAMES.len() {
            let host = Namespace::new(NAMES[place]);
            let link = Namespace::connect(&world.internet, &host);
            host.add_address(ADDRESSES[place]);
            host.default_route(link.a);
            world
                .internet
                .sh(&format!("ip route add {} via {}", ADDRESSES[place], link.b.v4));
            network.hosts.push(host);
            network.links.push(link);
            network.described.push(json!(null));
            network.nodes.push(None);
            network.start_node(world, place);
        }
        world.config_file("gate17-trust.json", &network.trust().to_string());
        network.publish(world, 1, &Holds(86_400 * 7));
        network
    }

    /// Its addresses.
    pub(crate) fn addresses() -> [IpAddr; 3] {
        ADDRESSES.map(IpAddr::from)
    }

    /// The same after [`Network::move_to_v6`].
    pub(crate) fn addresses_v6() -> [IpAddr; 3] {
        ADDRESSES_V6.map(IpAddr::from)
    }

    /// From now on nodes listen at addresses of IPv6 alone, and the next map says so.
    pub(crate) fn move_to_v6(&mut self, world: &World) {
        world
            .internet
            .sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
        for (place, address) in ADDRESSES_V6.into_iter().enumerate() {
            let (name, via) = (NAMES[place], self.links[place].b.v6);
            self.hosts[place].add_address(address);
            world.internet.sh(&format!("ip -6 route add {address} via {via}"));
            let file = world.root().join(name).join("etc/portmaster/gate17-node.toml");
            let config = fs::read_to_string(file).unwrap();
            let old = format!("{}:{PORT}", ADDRESSES[place]);
            self.kill(place);
            self.start_with(
                world,
                place,
                &config.replace(&old, &format!("[{address}]:{PORT}")),
            );
            let at = json!([{ "address": address, "port": PORT, "carrier": "tls" }]);
            self.say(place, "addresses", at);
        }
    }

    fn trust(&self) -> Value {
        json!({ "network": "try", "root": self.root() })
    }

    fn root(&self) -> Value {
        json!({ "version": 1, "threshold": 1, "keys": [public(&self.key).unwrap()] })
    }

    /// Starts a node, again with the key that it has.
    pub(crate) fn start_node(&mut self, world: &World, place: usize) {
        let address = ADDRESSES[place];
        let digest = gate17_proto::access::token_digest(TOKEN).0;
        let digest: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
        let config = format!(
            "listen = ['{address}:{PORT}']\naccess = {{ token = ['{digest}'] }}\nexit = [{{ allow = true, to = '198.18.0.0/15', ports = '*' }}, \
             {{ allow = true, to = '2606:17::/32', ports = '*' }}, {{ allow = true, to = '*', ports = '*' }}]\nresolver = '198.18.17.10:53'\n"
        );
        self.start_with(world, place, &config);
    }

    fn start_with(&mut self, world: &World, place: usize, config: &str) {
        let (name, address) = (NAMES[place], ADDRESSES[place]);
        let folder = world.root().join(name);
        let settings = folder.join("etc/portmaster");
        fs::create_dir_all(&settings).unwrap();
        fs::write(settings.join("gate17-node.toml"), config).unwrap();
        let mut command = self.hosts[place].command(binary("portmaster-gate17-node"));
        command.arg("--root").arg(&folder);
        let node = Running::start_logged(name, command, &folder.join("log"));
        eventually("a node is ready", || {
            node.output().contains("ready").then_some(())
        });
        self.nodes[place] = Some(node);
        let mut command = self.hosts[place].command(binary("portmaster-gate17-node"));
        let said = command
            .arg("--root")
            .arg(&folder)
            .arg("--print-descriptor")
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let at = said.find("sha256:").expect("a key is described");
        self.described[place] = json!({
            "id": name, "keys": [&said[at..at + 71]],
            "addresses": [{ "address": address, "port": PORT, "carrier": "tls" }],
            "region": REGIONS[place], "family": name, "relay": true, "capacity": 1000,
            "exit": [
                { "allow": true, "to": "198.18.0.0/15", "ports": "*" },
                { "allow": true, "to": "2606:17::/32", "ports": "*" },
            ],
        });
    }

    /// Where a node stands.
    pub(crate) fn host(&self, place: usize) -> &Namespace {
        &self.hosts[place]
    }

    /// To a node's process.
    pub(crate) fn signal(&self, place: usize, signal: rustix::process::Signal) {
        self.nodes[place].as_ref().unwrap().signal(signal);
    }

    /// From now on a node carries to no other node, whatever the map says of it.
    pub(crate) fn decline_nodes(&mut self, world: &World, place: usize) {
        let file = world
            .root()
            .join(NAMES[place])
            .join("etc/portmaster/gate17-node.toml");
        let config = fs::read_to_string(&file).unwrap();
        let rule = "{ allow = true, to = '*', ports = '*' }";
        assert!(config.contains(rule), "{config}");
        self.kill(place);
        let config = config.replace(rule, "{ allow = false, to = '*', ports = '*' }");
        self.start_with(world, place, &config);
    }

    /// A node has a map of its own from now on.
    pub(crate) fn give_map(&self, world: &World, place: usize, envelope: &str) {
        let settings = world.root().join(NAMES[place]).join("etc/portmaster");
        fs::write(settings.join("gate17-trust.json"), self.trust().to_string()).unwrap();
        fs::write(settings.join("gate17-map.json"), envelope).unwrap();
    }

    /// A node admits whom its map admits.
    pub(crate) fn admit_by_map(&mut self, world: &World, place: usize) {
        let file = world
            .root()
            .join(NAMES[place])
            .join("etc/portmaster/gate17-node.toml");
        let config = fs::read_to_string(&file).unwrap();
        let others = config.lines().filter(|line| !line.starts_with("access"));
        let config = others.collect::<Vec<_>>().join("\n") + "\naccess = 'map'\n";
        self.kill(place);
        self.start_with(world, place, &config);
    }

    /// What the next maps say besides.
    pub(crate) fn say_of_all(&mut self, key: &'static str, value: Value) {
        self.said.push((key, value));
    }

    /// What the next map says of a node.
    pub(crate) fn say(&mut self, place: usize, key: &str, value: Value) {
        self.described[place][key] = value;
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, place: usize) {
        self.nodes[place].take().unwrap().kill();
    }

    /// The map says that this node has another key.
    pub(crate) fn say_another_key(&mut self, place: usize) {
        self.described[place]["keys"] = json!([format!("sha256:{}", format!("1{place}").repeat(32))]);
    }

    /// Puts a new map where the entry looks for it.
    pub(crate) fn publish(&self, world: &World, serial: u64, holds: &Holds) {
        world.config_file("gate17-map.json", &self.envelope(serial, holds));
    }

    /// A new map, signed.
    pub(crate) fn envelope(&self, serial: u64, holds: &Holds) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let now = i64::try_from(now).unwrap();
        let time = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
        let mut map = json!({
            "format": 1, "network": "try", "serial": serial,
            "issued": time(now.min(now + holds.0) - 10), "expires": time(now + holds.0),
            "root": self.root(), "access": "token", "tokens": [gate17_proto::access::token_digest(TOKEN)],
            "knock": gate17_proto::map::Secret([17; 32]), "nodes": self.described,
        });
        for (key, value) in &self.said {
            map[*key] = value.clone();
        }
        let mut envelope = Envelope::new(MAP_TYPE, map.to_string().as_bytes());
        assert!(envelope.sign(&self.key));
        serde_json::to_string(&envelope).unwrap()
    }
}

/// `gate17-entry.toml` for that network.
pub(crate) const ENTRY: (&str, &str) = ("gate17-entry.toml", "token = 'gate17-token'\n");
/// The file that it names.
pub(crate) const ENTRY_TOKEN: (&str, &str) = ("gate17-token", "let-me-in\n");

/// A server of the internet.
pub(crate) const fn server(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(integration::world::INTERNET_V4), port)
}
