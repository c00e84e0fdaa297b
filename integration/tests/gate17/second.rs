//! A second implementation of the protocol, in another language, of its specification alone: real nodes serve it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
};

use gate17_proto::map::{Envelope, MAP_TYPE};
use integration::{NameServer, Running, eventually, world::INTERNET_V4};
use serde_json::json;

use crate::{
    carried::ECHO,
    circuits::Place,
    network::{ENTRY, Holds, Network, server},
};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gate17/client.py");
const WEB: u16 = 8000;
const UDP: u16 = 7002;

fn client(place: &Place, map: &str, arguments: &[&str]) -> Output {
    let mut command: Command = place.world.host.command("python3");
    let config = place.world.config_dir();
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .arg(CLIENT)
        .arg(config.join("gate17-trust.json"))
        .arg(config.join(map));
    command.args(arguments).output().unwrap()
}

fn told(place: &Place, arguments: &[&str]) -> String {
    let output = client(place, "gate17-map.json", arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    assert!(errors.starts_with("by way of "), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(place: &Place, map: &str, arguments: &[&str], why: &str) {
    let output = client(place, map, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains(why),
        "{map} {arguments:?}: {errors}"
    );
}

#[test]
fn a_client_of_another_make_fetches_pages_sends_datagrams_and_asks_names() {
    let place = Place::with("g17-second", ENTRY.1, |network, world| {
        network.say_of_all("access", json!("map"));
        let map = network.envelope(2, &Holds(86_400));
        for node in 0..3 {
            network.give_map(world, node, &map);
            network.admit_by_map(world, node);
        }
        world.config_file("gate17-map.json", &map);
        // the same octets, and one that somebody else signed; an old one; one in which nodes have other keys
        let mut forged = Envelope::new(
            MAP_TYPE,
            &serde_json::from_str::<Envelope>(&map).unwrap().octets().unwrap(),
        );
        forged.sign(&aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap());
        world.config_file("forged.json", &serde_json::to_string(&forged).unwrap());
        world.config_file("old.json", &network.envelope(3, &Holds(-3 * 86_400)));
        for node in 0..3 {
            network.say_another_key(node);
        }
        world.config_file("others.json", &network.envelope(3, &Holds(86_400)));
    });
    let world = &place.world;
    let (to, echo) = (server(WEB).to_string(), server(UDP).to_string());
    let folder = world.root().join("www");
    fs::create_dir_all(&folder).unwrap();
    // more than any window
    let page: String = (0..300_000).map(|line| format!("line {line}\n")).collect();
    fs::write(folder.join("page"), &page).unwrap();
    let mut web = world.internet.command("python3");
    web.args([
        "-m",
        "http.server",
        "--bind",
        &INTERNET_V4.to_string(),
        &WEB.to_string(),
        "-d",
    ]);
    web.arg(&folder);
    let _web = Running::start_logged("web", web, &world.root().join("web.log"));
    let mut answers = world.internet.command("python3");
    answers.args(["-c", ECHO, &INTERNET_V4.to_string()]);
    let _answers = Running::start_logged("echo", answers, &world.root().join("echo.log"));
    let records = ["address=/second.example/192.0.2.17".to_owned()];
    let names = NameServer::start(&world.internet, &[INTERNET_V4.into()], &records, world.root());
    eventually("the web server is there", || {
        world
            .internet
            .enter(|| std::net::TcpStream::connect(server(WEB)))
            .ok()
    });

    let wire = world.internet.capture();
    for hops in ["1", "2", "3"] {
        let got = told(&place, &["fetch", &to, "/page", "--hops", hops]);
        assert!(got == page, "{hops} hops: {} octets of {}", got.len(), page.len());
    }
    assert_eq!(told(&place, &["udp", &echo, "a datagram"]), "a datagram\n");
    assert_eq!(told(&place, &["name", "second.example"]), "192.0.2.17\n");
    assert_eq!(names.asked("second.example"), 1);
    assert_eq!(told(&place, &["map"]), "2\n");
    let host: std::net::IpAddr = world.link.a.v4.into();
    let clear = wire.seen(|packet| {
        [packet.from, packet.to].contains(&host) && [packet.from, packet.to].contains(&INTERNET_V4.into())
    });
    assert_eq!(clear.len(), 0, "it comes from the exit");

    refused(
        &place,
        "gate17-map.json",
        &["fetch", &server(1).to_string()],
        "it was answered 502",
    );
    refused(&place, "forged.json", &["map"], "too few signatures");
    refused(&place, "old.json", &["map"], "another time");
    refused(&place, "others.json", &["map"], "has another key");

    in_circles(&place, &to);
}

/// Circuits that lead back to nodes that they came by, and to where no circuit may lead.
const CIRCLES: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from client import *
with open(sys.argv[2], 'rb') as trust, open(sys.argv[3], 'rb') as envelope:
    map = opened(envelope.read(), json.load(trust))
a, b = map['nodes'][:2]
shown, host, port = token(map, None), *sys.argv[4].split(':')
circle = Circuit([a, b] * 4, shown)
stream = circle.connect(f'{host}:{port}')
stream.send(b'GET /page HTTP/1.0\\r\\n\\r\\n')
print(len(stream.all()), flush=True)
stream = circle.connect(f'{host}:{port}')
stream.answered()
for who, nodes in (('itself', [a, a]), ('itself, behind another', [b, a, a])):
    try:
        Circuit(nodes, shown)
        sys.exit(f'{who} was reached')
    except Refused as refused:
        assert 'answered 403' in str(refused), (who, refused)
relay = Circuit([a], shown)
own = a['addresses'][0]['address']
for to in ('127.0.0.1:443', '10.17.0.1:53', '169.254.169.254:80', '[::1]:443', '[::ffff:127.0.0.1]:443', '[fe80::1]:80',
           '192.168.0.1:443', '100.64.0.1:80', '0.0.0.0:443', '224.0.0.1:443', f'{own}:443', f'{own}:22'):
    try:
        relay.connect(to).answered()
        sys.exit(f'{to} was reached')
    except Refused as refused:
        assert 'answered 403' in str(refused), (to, refused)
print('refused', flush=True)
sys.stdin.read()
";

/// Eight hops by two nodes: each is a stream like others, and all end with the client.
fn in_circles(place: &Place, to: &str) {
    let config = place.world.config_dir();
    let mut command = place.world.host.command("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .args(["-c", CIRCLES])
        .arg(Path::new(CLIENT).parent().unwrap());
    command
        .arg(config.join("gate17-trust.json"))
        .arg(config.join("gate17-map.json"));
    let mut child = command
        .arg(to)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let octets: usize = said.next().unwrap().unwrap().parse().unwrap();
    assert!(octets > 3_000_000, "{octets}");
    assert_eq!(said.next().unwrap().unwrap(), "refused");
    let [alpha, beta, _] = Network::addresses();
    let between = || {
        let there = place.network.host(0).sh(&format!(
            "ss -Htn state established dst {beta} or src {alpha} dport 443"
        ));
        there.lines().count()
    };
    assert!(between() >= 3, "alpha is connected to beta");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    eventually("nothing is left of it", || (between() == 0).then_some(()));
}
