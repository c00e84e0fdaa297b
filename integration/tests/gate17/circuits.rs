//! Circuits of the real entry through real nodes, of which one does not do what it should: it is found, and the others are
//! not blamed for it.

use std::{collections::BTreeMap, process::Command};

use integration::{App, Namespace, Service, World, app::ATTEMPT, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::network::{ENTRY, ENTRY_TOKEN, Holds, Network, server};

pub(crate) const PORT: u16 = 7000;
/// From here on a node is avoided.
pub(crate) const AVOIDED: f64 = 0.5;
pub(crate) const NODES: [&str; 3] = ["alpha", "beta", "gamma"];

/// A world with an echo server, three nodes and the entry.
pub(crate) struct Place {
    pub(crate) network: Network,
    pub(crate) world: World,
}

impl Place {
    pub(crate) fn new(label: &str) -> Self {
        Self::with(label, ENTRY.1, |_, _| {})
    }

    /// `prepare`: before the entry starts.
    pub(crate) fn with(label: &str, entry: &str, prepare: impl FnOnce(&mut Network, &World)) -> Self {
        let mut world = World::builder(label)
            .config_file(ENTRY.0, entry)
            .config_file(ENTRY_TOKEN.0, ENTRY_TOKEN.1)
            .start();
        for address in world.internet_addresses() {
            world.internet.echo(address, PORT);
        }
        let mut network = Network::start(&world);
        prepare(&mut network, &world);
        world.start_service(Service::Gate17Entry);
        Self { network, world }
    }

    /// A program that is tunnelled; `tunnel`: what its profile says of that.
    pub(crate) fn app(&self, name: &str, tunnel: &str) -> App {
        let app = self.world.app(name);
        self.world
            .profile(name, &app.profile("tunnel", &format!("[tunnel]\n{tunnel}")));
        app
    }

    /// A line goes to the server and back.
    pub(crate) fn echoes(&self, app: &App) -> bool {
        app.call(&self.world, server(PORT)).echoes("hello", ATTEMPT)
    }

    /// As soon as its profile is in force, and there is a way.
    pub(crate) fn wait_until_carried(&self, app: &App) {
        eventually("a circuit of the program carries", || {
            (self.echoes(app) && self.circuit_of(app).is_some()).then_some(())
        });
    }

    /// What `portmaster gate17 …` tells, one value a line.
    pub(crate) fn told(&self, what: &str) -> Vec<Value> {
        let mut command = self.world.command(integration::binary("portmaster"));
        let said = output(command.args(["gate17", what, "--json"]));
        said.lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// Circuits that take new streams.
    pub(crate) fn ready(&self) -> Vec<Value> {
        let mut circuits = self.told("circuits");
        circuits.retain(|circuit| circuit["state"] == "ready");
        circuits
    }

    /// The one that a program has, of those that take new streams.
    pub(crate) fn circuit_of(&self, app: &App) -> Option<Value> {
        let path = json!(app.path());
        self.ready().into_iter().find(|circuit| circuit["for"] == path)
    }

    /// How much each node is in trouble.
    pub(crate) fn trouble(&self) -> BTreeMap<String, f64> {
        let nodes = self.told("nodes").into_iter();
        nodes
            .map(|node| {
                let id = node["id"].as_str().unwrap().to_owned();
                (id, node["trouble"].as_f64().unwrap())
            })
            .collect()
    }
}

/// What it prints.
pub(crate) fn output(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// Where a node stands in the network.
pub(crate) fn place_of(node: &Value) -> usize {
    NODES.iter().position(|name| node == name).unwrap()
}

#[test]
fn a_relay_that_declines_is_blamed_and_not_the_node_behind_it() {
    let place = Place::with("g17-declines", ENTRY.1, |network, world| {
        network.decline_nodes(world, 0);
        // it is first on every path that is drawn
        network.say(0, "capacity", json!(1_000_000));
        network.say(1, "capacity", json!(1));
        network.publish(world, 2, &Holds(86_400));
    });
    let app = place.app("app", "hops = 2\nexit = ['node:gamma']\n");
    place.wait_until_carried(&app);
    assert_eq!(place.circuit_of(&app).unwrap()["hops"], json!(["beta", "gamma"]));
    let trouble = place.trouble();
    assert!(trouble["alpha"] > 0.3, "{trouble:?}");
    assert!(trouble["beta"] < 0.1 && trouble["gamma"] < 0.1, "{trouble:?}");
    let alpha = place.told("nodes").into_iter().find(|node| node["id"] == "alpha");
    assert!(alpha.unwrap()["problem"].as_str().unwrap().contains("alpha: "));
}

#[test]
fn an_exit_that_stalls_is_found_and_the_relay_before_it_goes_on() {
    let place = Place::new("g17-stalls");
    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let hops = place.circuit_of(&app).unwrap()["hops"].clone();
    let stalled = place_of(&hops[1]);
    place.network.signal(stalled, Signal::STOP);
    eventually("the node that does not answer is avoided", || {
        place.echoes(&app);
        (place.trouble()[NODES[stalled]] >= AVOIDED).then_some(())
    });
    let trouble = place.trouble();
    for other in NODES.iter().filter(|name| **name != NODES[stalled]) {
        assert!(trouble[*other] < AVOIDED, "{trouble:?}");
    }
    eventually("connections go another way", || place.echoes(&app).then_some(()));
    let now = place.circuit_of(&app).unwrap()["hops"].clone();
    assert_ne!(now[1], hops[1]);
    assert_eq!(now[0], hops[0], "the first node is kept");
    place.network.signal(stalled, Signal::CONT);
}

#[test]
fn a_first_node_that_stalls_is_found_and_the_one_behind_it_is_not_blamed() {
    let place = Place::new("g17-stalls-1");
    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let hops = place.circuit_of(&app).unwrap()["hops"].clone();
    let stalled = place_of(&hops[0]);
    place.network.signal(stalled, Signal::STOP);
    eventually("connections go another way", || {
        (place.echoes(&app) && place.trouble()[NODES[stalled]] >= AVOIDED).then_some(())
    });
    let trouble = place.trouble();
    for other in NODES.iter().filter(|name| **name != NODES[stalled]) {
        assert!(trouble[*other] < 0.3, "{trouble:?}");
    }
    place.network.signal(stalled, Signal::CONT);
}

#[test]
fn the_first_node_is_the_same_for_all_programs_and_over_a_restart() {
    let mut place = Place::new("g17-guard");
    let mut first = Vec::new();
    for number in 0..3 {
        let app = place.app(&format!("app{number}"), "hops = 2\n");
        place.wait_until_carried(&app);
        first.push(place.circuit_of(&app).unwrap()["hops"][0].clone());
    }
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    let app = place.app("last", "hops = 2\n");
    place.wait_until_carried(&app);
    first.push(place.circuit_of(&app).unwrap()["hops"][0].clone());
    first.dedup();
    assert_eq!(first.len(), 1, "{first:?}");
}

/// The far end answers a node late: the first SYN of each connection is lost, and the second is sent a second later.
fn answer_late(node: &Namespace) {
    node.sh(&format!(
        "nft -f - <<'END'
table ip late {{
    set seen {{ type inet_service; flags dynamic,timeout; timeout 1m; }}
    chain first {{
        type filter hook output priority 0;
        tcp dport {PORT} tcp flags & (syn | ack) == syn tcp sport != @seen add @seen {{ tcp sport }} drop
    }}
}}
END"
    ));
}

#[test]
fn the_exit_that_a_destination_answers_soonest_is_taken_once_others_were_tried() {
    let place = Place::new("g17-near");
    for late in 0..2 {
        answer_late(place.network.host(late));
    }
    let app = place.app("app", "hops = 1\nexit = 'near'\n");
    place.wait_until_carried(&app);
    let streams = || -> BTreeMap<String, u64> {
        let mut streams = BTreeMap::new();
        for circuit in place.told("circuits") {
            if circuit["for"] == json!(app.path()) {
                let exit = circuit["hops"][0].as_str().unwrap().to_owned();
                *streams.entry(exit).or_default() += circuit["streams"].as_u64().unwrap();
            }
        }
        streams
    };
    eventually("exits of all regions were tried", || {
        (place.echoes(&app) && streams().len() == 3).then_some(())
    });
    let before = streams();
    for _ in 0..5 {
        assert!(place.echoes(&app));
    }
    let after = streams();
    assert_eq!(after["gamma"], before["gamma"] + 5, "{before:?} {after:?}");
    assert_eq!((after["alpha"], after["beta"]), (before["alpha"], before["beta"]));
}

#[test]
fn a_node_that_does_not_answer_at_one_address_is_reached_at_another_first_and_behind_others() {
    let place = Place::with("g17-addresses", ENTRY.1, |network, world| {
        for (node, address) in Network::addresses().into_iter().enumerate() {
            let std::net::IpAddr::V4(address) = address else {
                continue;
            };
            let [a, b, c, _] = address.octets();
            let nowhere = std::net::Ipv4Addr::new(a, b, c, 99);
            world.internet.sh(&format!("ip route add blackhole {nowhere}"));
            let at =
                |address: std::net::Ipv4Addr| json!({ "address": address, "port": 443, "carrier": "tls" });
            network.say(node, "addresses", json!([at(nowhere), at(address)]));
        }
        network.publish(world, 2, &Holds(86_400));
    });
    let app = place.app("app", "hops = 3\n");
    place.wait_until_carried(&app);
    let trouble = place.trouble();
    assert!(
        trouble.values().all(|trouble| *trouble < 0.1),
        "nobody is blamed: {trouble:?}"
    );
}
