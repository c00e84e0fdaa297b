//! What is carried goes on, or ends with an error that the program hears; what comes next has its way already.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::IpAddr,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use integration::{app::ATTEMPT, capture::Captured, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    circuits::{AVOIDED, NODES, PORT, Place, place_of},
    network::{Network, server},
};

/// Without a packet for so long, nothing is going on.
const QUIET: Duration = Duration::from_millis(300);

/// Says a line to the server, prints what comes back, and then how the connection ends.
const TALK: &str = "
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b'hello\\n')
print(s.recv(100).decode().strip(), flush=True)
try:
    print('end' if s.recv(100) == b'' else 'more', flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
";

/// A program of Python's that is tunnelled.
struct Talk {
    child: Child,
    heard: Receiver<String>,
}

impl Talk {
    fn start(place: &Place, name: &str, tunnel: &str) -> Self {
        let folder = place.world.root().join("apps");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        if !path.exists() {
            std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
        }
        let more = format!("[tunnel]\n{tunnel}");
        place
            .world
            .profile(name, &integration::profile(&path, "tunnel", &more));
        let to = server(PORT);
        eventually("the program is tunnelled", || {
            let mut command = place.world.host.command(&path);
            command.env("PYTHONHOME", "/usr").args([
                "-c",
                TALK,
                &to.ip().to_string(),
                &to.port().to_string(),
            ]);
            let talk = Self::of(command);
            let carried = talk.hears(ATTEMPT).as_deref() == Some("hello")
                && circuits_of(place, &json!(path)).iter().any(is_used);
            carried.then_some(talk)
        })
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, heard) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, heard }
    }

    fn hears(&self, patience: Duration) -> Option<String> {
        self.heard.recv_timeout(patience).ok()
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn circuits_of(place: &Place, path: &Value) -> Vec<Value> {
    let mut circuits = place.told("circuits");
    circuits.retain(|circuit| circuit["for"] == *path);
    circuits
}

fn is_used(circuit: &Value) -> bool {
    circuit["streams_now"].as_u64() > Some(0)
}

#[test]
fn a_stream_whose_node_is_lost_is_reset_others_go_on_and_new_ones_go_elsewhere() {
    let mut place = Place::new("g17-lost");
    let lost = Talk::start(&place, "lost", "hops = 1\nexit = ['node:alpha', 'node:beta']\n");
    let other = place.app("other", "hops = 1\nexit = ['node:gamma']\n");
    place.wait_until_carried(&other);
    let mut call = other.call(&place.world, server(PORT));
    assert!(call.echoes("before", ATTEMPT));
    let path = json!(place.world.root().join("apps/lost"));
    let circuits = circuits_of(&place, &path);
    let used = circuits.iter().find(|circuit| is_used(circuit)).unwrap();
    let victim = place_of(&used["hops"][0]);
    place.network.kill(victim);
    let end = lost
        .hears(integration::PATIENCE)
        .expect("the program hears of it, and does not hang");
    assert_eq!(end, "ConnectionResetError");
    assert!(
        call.echoes("after", ATTEMPT),
        "the other program's stream goes on"
    );
    let again = Talk::start(&place, "lost", "hops = 1\nexit = ['node:alpha', 'node:beta']\n");
    let circuits = circuits_of(&place, &path);
    let used = circuits.iter().find(|circuit| is_used(circuit)).unwrap();
    assert_ne!(place_of(&used["hops"][0]), victim, "new streams go elsewhere");
    drop(again);
}

#[test]
fn a_node_that_drains_keeps_its_streams_and_another_circuit_is_there_before_it_is_needed() {
    let place = Place::new("g17-drains");
    let app = place.app("app", "hops = 2\n");
    place.wait_until_carried(&app);
    let mut call = app.call(&place.world, server(PORT));
    assert!(call.echoes("before", ATTEMPT));
    let old = place.circuit_of(&app).unwrap();
    place.network.signal(place_of(&old["hops"][1]), Signal::HUP);
    let new = eventually("another circuit is there, though nobody asked for one", || {
        place
            .circuit_of(&app)
            .filter(|circuit| circuit["id"] != old["id"])
    });
    assert!(
        !new["hops"].as_array().unwrap().contains(&old["hops"][1]) || NODES.len() < 3,
        "{new}"
    );
    let told = place.told("circuits");
    let drained = told.iter().find(|circuit| circuit["id"] == old["id"]).unwrap();
    assert_eq!(
        (&drained["state"], &drained["streams_now"]),
        (&json!("draining"), &json!(1))
    );
    assert!(call.echoes("while it drains", ATTEMPT), "what is open goes on");
    assert!(place.echoes(&app));
    let told = place.told("circuits");
    let taken = told.iter().find(|circuit| circuit["id"] == new["id"]).unwrap();
    assert!(
        taken["streams"].as_u64() > Some(0),
        "new streams go by the new circuit: {taken}"
    );
    assert!(call.echoes("to its end", ATTEMPT));
}

#[test]
fn a_node_that_others_found_failing_is_left_by_all_before_they_need_to() {
    let place = Place::new("g17-falls");
    let wish = "hops = 1\nexit = ['node:alpha', 'node:beta']\n";
    let app = place.app("app", wish);
    place.wait_until_carried(&app);
    let old = place.circuit_of(&app).unwrap();
    let failing = place_of(&old["hops"][0]);
    let prober = place.app(
        "prober",
        &format!("hops = 1\nexit = ['node:{}']\n", NODES[failing]),
    );
    place.wait_until_carried(&prober);
    place.network.signal(failing, Signal::STOP);
    eventually("the other program found it failing", || {
        place.echoes(&prober);
        (place.trouble()[NODES[failing]] >= AVOIDED).then_some(())
    });
    let new = eventually("this one has another circuit, and did not ask for it", || {
        place
            .circuit_of(&app)
            .filter(|circuit| circuit["id"] != old["id"])
    });
    assert_ne!(place_of(&new["hops"][0]), failing);
    assert_eq!(new["streams"], json!(0), "{new}");
    assert!(place.echoes(&app));
    place.network.signal(failing, Signal::CONT);
}

/// The port of ours that a packet with content on a connection with a node belongs to, and whether it goes there.
fn flight(packet: &Captured, nodes: &[IpAddr]) -> Option<(u16, bool)> {
    let header = usize::from(packet.bytes.first()? & 0xf) * 4;
    let tcp = packet.bytes.get(header..)?;
    let port = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    let length = usize::from(u16::from_be_bytes(*packet.bytes.get(2..)?.first_chunk()?));
    let content = length.checked_sub(header + usize::from(tcp.get(12)? >> 4) * 4)?;
    let to_node = nodes.contains(&packet.to);
    let ours = port(if to_node { 0 } else { 2 })?;
    (packet.protocol == 6 && content > 0 && (to_node || nodes.contains(&packet.from)))
        .then_some((ours, to_node))
}

#[test]
fn a_program_that_is_new_takes_a_circuit_that_was_built_ahead_and_waits_for_one_round_trip() {
    let place = Place::new("g17-ahead");
    let first = place.app("first", "hops = 3\n");
    place.wait_until_carried(&first);
    let second = place.app("second", "hops = 3\n");
    eventually("its profile is in force", || {
        let circuit = place.circuit_of(&second);
        if circuit.is_none() {
            place.echoes(&second);
        }
        circuit
    });
    // a third: what is to be known of it is known, but for its circuit
    let third = place.app("third", "hops = 3\n");
    let spares = || -> Vec<Value> {
        let ready = place.ready().into_iter();
        let spares = ready.filter(|circuit| circuit["for"].is_null() && !circuit["round_trip_us"].is_null());
        spares.map(|circuit| circuit["id"].clone()).collect()
    };
    eventually("a circuit that nobody has is ready, and was measured", || {
        (!spares().is_empty()).then_some(())
    });
    let nodes = Network::addresses();
    let wire = place.world.internet.capture();
    let (attempt, before, circuit) = eventually("it is tunnelled", || {
        wire.clear();
        thread::sleep(QUIET);
        // nothing else is being built, or fetched
        let busy = !wire.with(&nodes).is_empty();
        let before = spares();
        if busy || before.is_empty() {
            return None;
        }
        wire.clear();
        let attempt = third.connect(&place.world, server(PORT));
        Some((attempt, before, circuits_of(&place, &json!(third.path())).pop()?))
    });
    assert!(attempt.connected, "{attempt:?}");
    assert!(
        before.contains(&circuit["id"]),
        "it was there: {before:?}, {circuit}"
    );
    // of this host's connections with nodes, those that were there before: what went there and back on each
    let host = IpAddr::from(place.world.link.a.v4);
    let mut flights: BTreeMap<u16, Vec<bool>> = BTreeMap::new();
    for packet in wire.seen(|packet| packet.from == host || packet.to == host) {
        if let Some((port, to_node)) = flight(&packet, &nodes) {
            flights.entry(port).or_default().push(to_node);
        }
    }
    for packet in wire.seen(|packet| packet.from == host && is_greeting(packet)) {
        flights.retain(|port, _| source(&packet) != Some(*port));
    }
    flights.values_mut().for_each(Vec::dedup);
    let trips = flights
        .values()
        .map(|flights| flights.iter().filter(|to_node| **to_node).count());
    // there and back to open it, one more to close it, and one for a PING that may fall into that moment
    let quick = trips.filter(|trips| (1..=3).contains(trips)).count();
    assert!(quick >= 1, "{flights:?}");
}

fn is_greeting(packet: &Captured) -> bool {
    packet.protocol == 6 && packet.bytes.get(33).is_some_and(|flags| flags & 2 != 0)
}

fn source(packet: &Captured) -> Option<u16> {
    Some(u16::from_be_bytes(*packet.bytes.get(20..)?.first_chunk()?))
}
