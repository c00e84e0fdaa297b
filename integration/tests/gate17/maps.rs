//! Where the real entry has its map from: files of which one is bad, a web server, the network's nodes.

use std::{fs, path::PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use integration::{Running, Service, World, eventually, world::INTERNET_V4};
use serde_json::{Value, json};

use crate::{
    circuits::Place,
    network::{ENTRY, Holds},
};

const WEB: u16 = 8443;
const WEEK: Holds = Holds(7 * 86_400);

/// Serves a folder by HTTPS.
const SERVER: &str = "
import functools, http.server, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[3])
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[4], sys.argv[5])
server.socket = context.wrap_socket(server.socket, server_side=True)
print('ready', flush=True)
server.serve_forever()
";

/// A web server of the internet, and the file that says whose it is.
struct Web {
    running: Running,
    folder: PathBuf,
    certificate: PathBuf,
}

impl Web {
    fn start(world: &World) -> Self {
        let folder = world.root().join("web");
        fs::create_dir_all(&folder).unwrap();
        let (key, certificate) = (world.root().join("web.key"), world.root().join("web.pem"));
        integration::certificate(&key, &certificate, &format!("IP:{INTERNET_V4}"));
        let mut command = world.internet.command("python3");
        command.args(["-c", SERVER, &INTERNET_V4.to_string(), &WEB.to_string()]);
        command.arg(&folder).arg(&certificate).arg(&key);
        let running = Running::start_logged("web", command, &world.root().join("web.log"));
        eventually("the web server is there", || {
            running.output().contains("ready").then_some(())
        });
        Self {
            running,
            folder,
            certificate,
        }
    }
}

impl Place {
    fn map(&self) -> Value {
        self.told("status").remove(0)["map"].clone()
    }

    /// What the entry says of its map, once that has this serial.
    fn map_of(&self, serial: u64) -> Value {
        let mut last = Value::Null;
        eventually(&format!("the map has serial {serial}"), || {
            last = self.map();
            (last["serial"] == serial).then_some(())
        });
        last
    }
}

#[test]
fn a_map_file_that_is_refused_hides_no_other() {
    let entry = format!("{}map = ['gate17-map.json', 'second.json']\n", ENTRY.1);
    let place = Place::with("g17-files", &entry, |network, world| {
        let good = network.envelope(5, &WEEK);
        world.config_file("second.json", &good);
        // as one that somebody else signed
        world.config_file("gate17-map.json", &good.replace("\"sig\":\"", "\"sig\":\"AAAA"));
    });
    let map = place.map_of(5);
    assert!(map["source"].as_str().unwrap().ends_with("second.json"), "{map}");
    assert!(
        map["problem"].as_str().unwrap().contains("gate17-map.json"),
        "{map}"
    );
    place.wait_until_carried(&place.app("app", ""));
    place.network.publish(&place.world, 6, &WEEK);
    let map = place.map_of(6);
    assert_eq!(map["problem"], "", "{map}");
}

#[test]
fn a_map_is_fetched_from_a_web_server_and_kept_when_that_is_gone() {
    let mut web = None;
    let url = format!("https://{INTERNET_V4}:{WEB}/map.json");
    let entry = format!(
        "{}map = []\nmap_url = ['{url}']\nmap_authorities = 'web.pem'\n",
        ENTRY.1
    );
    let mut place = Place::with("g17-web", &entry, |network, world| {
        let server = Web::start(world);
        fs::write(server.folder.join("map.json"), network.envelope(3, &WEEK)).unwrap();
        world.config_file("web.pem", &fs::read_to_string(&server.certificate).unwrap());
        web = Some(server);
    });
    let map = place.map_of(3);
    assert_eq!(
        (&map["source"], &map["problem"]),
        (&url.as_str().into(), &"".into()),
        "{map}"
    );
    place.wait_until_carried(&place.app("app", ""));
    // an older one is there: it is refused, and said to be
    let web = web.unwrap();
    fs::write(web.folder.join("map.json"), place.network.envelope(2, &WEEK)).unwrap();
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    eventually("the older map is refused", || {
        let map = place.map();
        let refused = map["problem"].as_str()?.contains("serial 2");
        assert_eq!(map["serial"], 3, "{map}");
        refused.then_some(())
    });
    web.running.kill();
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    assert_eq!(place.map()["serial"], 3, "the last good one is kept");
    eventually("it is said that the server is gone", || {
        place.map()["problem"].as_str()?.contains(&url).then_some(())
    });
    place.wait_until_carried(&place.app("other", ""));
}

#[test]
fn a_newer_map_is_fetched_from_a_node_by_way_of_another() {
    let place = Place::with("g17-served", ENTRY.1, |network, world| {
        let newer = network.envelope(8, &WEEK);
        for node in 0..3 {
            network.give_map(world, node, &newer);
        }
    });
    let map = place.map_of(8);
    assert!(map["source"].as_str().unwrap().starts_with("node "), "{map}");
    // the file with the older one lies there still: nobody offers it
    assert_eq!(map["problem"], "", "{map}");
    place.wait_until_carried(&place.app("app", ""));
}

#[test]
fn a_host_whose_map_is_over_fetches_another_from_a_node_that_it_knows_by_its_keys() {
    let entry = format!("{}map = []\n", ENTRY.1);
    let place = Place::with("g17-over", &entry, |network, world| {
        let kept = world.state_dir(Service::Gate17Entry);
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("map.json"), network.envelope(4, &Holds(-3 * 86_400))).unwrap();
        let newer = network.envelope(5, &WEEK);
        for node in 0..3 {
            network.give_map(world, node, &newer);
        }
    });
    let map = place.map_of(5);
    assert!(map["source"].as_str().unwrap().starts_with("node "), "{map}");
    place.wait_until_carried(&place.app("app", ""));
}

#[test]
fn a_host_is_admitted_by_its_key_and_one_with_another_is_not() {
    let (own, other) = (
        Ed25519KeyPair::generate().unwrap(),
        Ed25519KeyPair::generate().unwrap(),
    );
    let entry = "client_key = 'client.key'\n";
    let mut place = Place::with("g17-key", entry, |network, world| {
        network.say_of_all("access", json!("key"));
        network.say_of_all("client_keys", json!([gate17_proto::map::public(&own).unwrap()]));
        let map = network.envelope(2, &WEEK);
        for node in 0..3 {
            network.give_map(world, node, &map);
            network.admit_by_map(world, node);
        }
        world.config_file("gate17-map.json", &map);
        put_key(world, &own);
    });
    place.wait_until_carried(&place.app("app", ""));
    put_key(&place.world, &other);
    place.world.stop(Service::Gate17Entry);
    place.world.start_service(Service::Gate17Entry);
    let app = place.app("other", "");
    eventually("nodes do not carry for it", || {
        assert!(!(place.echoes(&app) && place.circuit_of(&app).is_some()));
        let problems = place.told("nodes").into_iter();
        problems
            .filter_map(|node| Some(node["problem"].as_str()?.contains("does not carry")))
            .find(|refused| *refused)
    });
}

fn put_key(world: &World, key: &Ed25519KeyPair) {
    let key = key.to_pkcs8().unwrap();
    fs::write(world.config_dir().join("client.key"), key.as_ref()).unwrap();
}
