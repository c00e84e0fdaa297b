//! A network as its owner founds and changes it by command alone, with real nodes and a real entry that follow; what the
//! command line and the desktop tell of it; and a clock that is wrong.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use dbus::Gate17Entry1Proxy;
use futures_util::{Stream, StreamExt as _};
use integration::{Service, World, WrongClock, binary, eventually};
use serde_json::Value;

use crate::{
    circuits::{NODES, Place, output},
    network::{ENTRY, Holds, Network, server},
};

const REGIONS: [&str; 3] = ["de", "fr", "it"];
const HOUR: i64 = 3600;
/// For a signal to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the owner works: keys of others beside the network's folder.
struct Owner {
    desk: PathBuf,
}

impl Owner {
    fn new(world: &World) -> Self {
        let desk = world.root().join("owner");
        fs::create_dir_all(&desk).unwrap();
        Self { desk }
    }

    /// `portmaster gate17 …` on the desk; what it prints.
    fn types(&self, words: &str) -> String {
        let mut command = Command::new(binary("portmaster"));
        command.current_dir(&self.desk).arg("gate17");
        let done = command.args(words.split_whitespace()).output().unwrap();
        let said = String::from_utf8(done.stdout).unwrap();
        assert!(done.status.success(), "{words}: {said}{:?}", done.stderr);
        said.trim().to_owned()
    }

    /// 2 of 3 root keys, of which one is here.
    fn founds(&self, world: &World, network: &mut Network) {
        let others = ["b.key", "c.key"].map(|file| self.types(&format!("network new-key {file}")));
        self.types(&format!(
            "network init mine --name ours --access token --root-key {} --root-key {}",
            others[0], others[1]
        ));
        for (place, name) in NODES.iter().enumerate() {
            let described = self.desk.join(format!("{name}.toml"));
            let mut node = network.host(place).command(binary("portmaster-gate17-node"));
            node.arg("--root").arg(world.root().join(name));
            fs::write(&described, output(node.arg("--print-descriptor"))).unwrap();
            let (address, region) = (Network::addresses()[place], REGIONS[place]);
            self.types(&format!(
                "node add mine --id {name} --descriptor {name}.toml --address {address}:443 --region {region} --relay --exit"
            ));
        }
        world.config_file("gate17-token", &self.types("token new mine host"));
        self.types("map sign mine");
        self.types("map sign mine/map-pending.json --key b.key");
        self.gives_map(world);
        for place in 0..NODES.len() {
            network.admit_by_map(world, place);
        }
        let key = world.config_dir().join("client.key");
        let public = self.types(&format!("client-key new {}", key.display()));
        self.types(&format!("client-key add mine host {public}"));
    }

    /// The map, and to whom has none yet whom to believe: nodes and the host.
    fn gives_map(&self, world: &World) {
        let nodes = NODES.map(|name| world.root().join(name).join("etc/portmaster"));
        for config in nodes.iter().chain([&world.config_dir()]) {
            let trust = config.join("gate17-trust.json");
            if !fs::read_to_string(&trust).is_ok_and(|text| text.contains("ours")) {
                fs::copy(self.desk.join("mine/trust.json"), &trust).unwrap();
            }
            let map = fs::read(self.desk.join("mine/map.json")).unwrap();
            daemon::files::replace(&config.join("gate17-map.json"), &map).unwrap();
        }
    }
}

impl Place {
    /// What `portmaster gate17 …` says to people.
    fn says(&self, words: &str) -> String {
        let mut command = self.world.command(binary("portmaster"));
        output(command.arg("gate17").args(words.split_whitespace()))
    }

    /// What it tells programs, in one line.
    fn tells(&self, words: &str) -> Value {
        let said = self.says(&format!("{words} --json"));
        serde_json::from_str(&said).expect(&said)
    }

    fn wait_for_map(&self, serial: u64) {
        eventually(&format!("the map has serial {serial}"), || {
            (self.tells("status")["map"]["serial"] == serial).then_some(())
        });
    }
}

#[test]
fn a_network_of_three_holders_is_founded_used_and_handed_on_by_command() {
    let mut owner = None;
    let entry = "token = 'gate17-token'\nclient_key = 'client.key'\n";
    let mut place = Place::with("g17-owner", entry, |network, world| {
        let new = Owner::new(world);
        new.founds(world, network);
        owner = Some(new);
    });
    let owner = owner.unwrap();
    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let status = place.says("status");
    assert!(
        status.contains("network ours, map 1") && !status.contains("problem"),
        "{status}"
    );

    // who has too few of the keys
    owner.types("map sign mine --key mine/root.key");
    let few = fs::read_to_string(owner.desk.join("mine/map-pending.json")).unwrap();
    place.world.config_file("gate17-map.json", &few);
    let status = eventually("the map with one signature is refused", || {
        let status = place.says("status");
        status
            .contains("signed by 1 root keys of 2 that are needed")
            .then_some(status)
    });
    assert!(status.contains("map 1 of"), "{status}");
    assert!(place.echoes(&app), "the one that was there stays");

    // one holder hands his key on, access is by key from now on; members know the root of before
    owner.types("network rotate-root mine --new-keys 1 --remove c.key");
    owner.types("map sign mine/rotation-pending.json --key b.key");
    owner.types("network access mine key");
    owner.types("token remove mine host");
    assert!(owner.types("map sign mine").contains("map 3"));
    let bus = desktop(&mut place);
    owner.gives_map(&place.world);
    place.wait_for_map(3);
    assert_eq!(place.tells("status")["map"]["problem"], "");
    place.wait_until_carried(&place.app("other", "hops = 3\n"));
    commands(&place);
    place.wait_until_carried(&app);
    bus.tells(&place, &owner);
}

/// What steers and tells, by command.
fn commands(place: &Place) {
    let destination = server(crate::circuits::PORT);
    let route = place.tells(&format!("route {destination}"));
    assert_eq!(route["hops"].as_array().unwrap().len(), 3, "{route}");
    let ping = place.tells("ping beta");
    assert!(ping["round_trip_us"].as_u64().unwrap() > 0, "{ping}");
    let nodes = place.told("nodes");
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|node| node["exit"] == true), "{nodes:?}");
    let speed = place.tells("speed --seconds 1 --via alpha");
    assert_eq!(speed["hops"].as_array().unwrap().len(), 1, "{speed}");
    for way in ["received", "sent"] {
        let way = &speed[way];
        assert!(way["octets"].as_u64().unwrap() > 1 << 20, "{speed}");
        assert!(way["mbit_per_s"].as_f64().unwrap() > 0.0, "{speed}");
    }
    let ready = place.ready();
    let id = ready.first().unwrap()["id"].as_u64().unwrap();
    assert!(
        place
            .says(&format!("close {id}"))
            .contains(&format!("circuit {id}"))
    );
    assert!(place.ready().iter().all(|circuit| circuit["id"] != id));
}

/// A desktop program.
struct Bus {
    runtime: tokio::runtime::Runtime,
    entry: Gate17Entry1Proxy<'static>,
}

fn desktop(place: &mut Place) -> Bus {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = place.world.bus().address();
    let entry = runtime.block_on(async {
        let builder = zbus::connection::Builder::address(address.as_str()).build();
        Gate17Entry1Proxy::new(&builder.await.unwrap()).await.unwrap()
    });
    Bus { runtime, entry }
}

async fn next<T>(stream: &mut (impl Stream<Item = T> + Unpin)) -> T {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await;
    next.expect("a signal comes").expect("the bus stays")
}

impl Bus {
    fn tells(&self, place: &Place, owner: &Owner) {
        self.runtime.block_on(async {
            let entry = &self.entry;
            assert_eq!(entry.network().await.unwrap(), "ours");
            assert!(entry.map_expires().await.unwrap() > 1_700_000_000_000_000);
            assert_eq!(entry.map_problem().await.unwrap(), "");
            let nodes = entry.nodes().await.unwrap();
            let names: Vec<_> = nodes.iter().map(|node| node.id.as_str()).collect();
            assert_eq!(names, NODES);
            let destination = server(crate::circuits::PORT).to_string();
            let (hops, _, steps) = entry.route(&destination, "").await.unwrap();
            assert!(hops.len() == 3 && !steps.is_empty(), "{hops:?} {steps:?}");
            assert!(entry.route("nowhere", "").await.is_err());
            let (connect, round_trip) = entry.ping("gamma").await.unwrap();
            assert!(connect > 0 && round_trip > 0);
            let refused = entry.ping("delta").await.unwrap_err().to_string();
            assert!(refused.contains("delta"), "{refused}");
            let (_, sent, received) = entry.totals().await.unwrap();
            assert!(sent > 0 && received > 0);

            // a circuit that is closed is told of to whom listens
            let mut closed = entry.receive_circuits_changed().await.unwrap();
            let circuits = entry.circuits().await.unwrap();
            let id = circuits.first().expect("a circuit is there").id;
            entry.close_circuit(id).await.unwrap();
            while !next(&mut closed)
                .await
                .args()
                .unwrap()
                .circuits
                .iter()
                .any(|circuit| circuit.id == id && circuit.state == 4)
            {}
            assert!(entry.close_circuit(id).await.is_err());

            // and a new map
            let mut serials = entry.receive_map_serial_changed().await;
            while next(&mut serials).await.get().await.unwrap() != 3 {}
            owner.types("node edit mine alpha --capacity 900");
            owner.types("map sign mine");
            owner.gives_map(&place.world);
            while next(&mut serials).await.get().await.unwrap() != 4 {}
            let nodes = entry.nodes().await.unwrap();
            assert_eq!(nodes.first().unwrap().capacity, 900);
        });
    }
}

/// Of the entry's clock alone; its map holds for a week, and was issued just now.
#[test]
fn a_clock_that_is_off_by_less_than_a_day_carries_and_one_that_is_off_by_more_is_named() {
    let mut place = Place::with("g17-clock", ENTRY.1, |network, world| {
        network.publish(world, 2, &Holds(48 * HOUR));
    });
    let clock = WrongClock::new(place.world.root());
    place.world.stop(Service::Gate17Entry);
    let mut command = place.world.service_command(Service::Gate17Entry);
    clock.give_to(&mut command);
    place.world.start_as(Service::Gate17Entry, command);
    let app = place.app("app", "");
    place.wait_until_carried(&app);
    // before it was issued, and after it is over: by less than a day, by more
    for (by, problem) in [
        (-23 * HOUR, None),
        (-25 * HOUR, Some("not yet")),
        (71 * HOUR, None),
        (73 * HOUR, Some("expired")),
        (0, None),
    ] {
        clock.set_by(by);
        let Some(problem) = problem else {
            eventually(&format!("carried while off by {by} s"), || {
                (place.tells("status")["map"]["problem"] == "" && place.echoes(&app)).then_some(())
            });
            continue;
        };
        let said = eventually(&format!("refused while off by {by} s"), || {
            let said = place.says("status");
            (said.contains(problem) && !place.echoes(&app)).then_some(said)
        });
        assert!(said.contains("check this host's clock"), "{said}");
    }
}
