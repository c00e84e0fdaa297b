//! A node by its map: to whom it relays, whom it admits, and to whom it gives the map.

use std::{
    io::{ErrorKind, Read as _},
    net::TcpStream,
    thread,
    time::Duration,
};

use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::{
    access::{EXPORTED, EXPORTER_LABEL, Origin, concealed, exporter_context, map_token},
    map::{Access, Envelope, MAP_TYPE, Map, PublicKey, Root, Secret, Trust, public},
};
use http::StatusCode;
use integration::eventually;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    client::{connect, connect_showing, within},
    place::{Place, text},
};

const KNOCK: Secret = Secret([17; 32]);

struct Network {
    place: Place,
    root: Ed25519KeyPair,
    client_keys: Vec<PublicKey>,
}

impl Network {
    /// Nobody is let in, and nothing is carried, before there is a map.
    fn new() -> Self {
        Self::with("")
    }

    fn with(config: &str) -> Self {
        let network = Self {
            place: Place::new(config),
            root: Ed25519KeyPair::generate().unwrap(),
            client_keys: Vec::new(),
        };
        let trust = Trust {
            network: "mine".to_owned(),
            root: network.keys(),
        };
        network
            .place
            .put("gate17-trust.json", &serde_json::to_vec(&trust).unwrap());
        network
    }

    fn keys(&self) -> Root {
        Root {
            version: 1,
            threshold: 1,
            keys: vec![public(&self.root).unwrap()],
        }
    }

    /// Another node is where the far server has its port 7000.
    fn map(&self, serial: u64, access: Access, relay: bool) -> Vec<u8> {
        let node = |id: &str, key: String, address: String, port: u16| {
            json!({
                "id": id, "keys": [key], "addresses": [{ "address": address, "port": port, "carrier": "tls" }],
                "region": "de", "family": id, "relay": relay, "capacity": 1,
            })
        };
        let client = self
            .place
            .client
            .sh(&format!("ip route get {}", self.place.node.v4));
        let client = client.split_once("src ").unwrap().1.split(' ').next().unwrap();
        let nodes = json!([
            node(
                "n3",
                format!("sha256:{}", "18".repeat(32)),
                client.to_owned(),
                443
            ),
            node("n1", self.place.pin(), self.place.node.v4.to_string(), 443),
            node(
                "n2",
                format!("sha256:{}", "17".repeat(32)),
                self.place.server.v4.to_string(),
                7000
            ),
        ]);
        let now = Timestamp::now();
        let map = Map {
            format: 1,
            network: "mine".to_owned(),
            serial,
            issued: now,
            expires: now + SignedDuration::from_hours(24),
            root: self.keys(),
            rotations: Vec::new(),
            access,
            knock: KNOCK,
            tokens: Vec::new(),
            client_keys: self.client_keys.clone(),
            nodes: serde_json::from_value(nodes).unwrap(),
        };
        let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map).unwrap());
        assert!(envelope.sign(&self.root));
        serde_json::to_vec(&envelope).unwrap()
    }

    /// What CONNECT to a port of the far server is answered, and whether by a node.
    fn asked(&self, port: u16, shown: Option<String>) -> (StatusCode, bool) {
        let (node, target) = (
            (self.place.node.v4, 443).into(),
            format!("{}:{port}", self.place.server.v4),
        );
        within(&self.place.client, async move {
            let client = connect_showing(node, |_| shown).await;
            let (response, _stream) = client.open(&target).await;
            (response.status(), response.headers().contains_key("proxy-status"))
        })
    }
}

#[test]
fn it_relays_to_nodes_of_its_map_alone_and_only_where_that_makes_it_a_relay() {
    let network = Network::new();
    let _node = network.place.far.echo(network.place.server.v4, 7000);
    let _other = network.place.far.echo(network.place.server.v4, 7001);
    let bearer = Some(format!("Bearer {}", map_token(&KNOCK)));
    let (_, is_node) = network.asked(7000, bearer.clone());
    assert!(!is_node, "without a map, a web server");
    let first = network.map(1, Access::Map, true);
    network.place.put("gate17-map.json", &first);
    eventually("the map is taken up", || {
        (network.asked(7000, bearer.clone()).0 == StatusCode::OK).then_some(())
    });
    assert_eq!(network.asked(7001, bearer.clone()), (StatusCode::FORBIDDEN, true));
    let wrong = Some(format!("Bearer {}", map_token(&Secret([1; 32]))));
    for shown in [None, wrong] {
        assert!(!network.asked(7000, shown).1, "who has no token sees no node");
    }
    // no relay any more; and no way back
    network
        .place
        .put("gate17-map.json", &network.map(2, Access::Map, false));
    let refused = (StatusCode::FORBIDDEN, true);
    eventually("the next map is taken up", || {
        (network.asked(7000, bearer.clone()) == refused).then_some(())
    });
    network.place.put("gate17-map.json", &first);
    eventually("an old map is refused", || {
        network
            .place
            .process
            .output()
            .contains("an old map was offered")
            .then_some(())
    });
    assert_eq!(network.asked(7000, bearer), refused);
}

#[test]
fn the_map_is_given_to_whom_it_admits_and_to_nobody_else() {
    let network = Network::new();
    let map = network.map(1, Access::Map, true);
    network.place.put("gate17-map.json", &map);
    let url = format!("https://{}/.well-known/gate17/map", network.place.node.v4);
    let bearer = format!("Authorization: Bearer {}", map_token(&KNOCK));
    for version in ["--http2", "--http1.1"] {
        let ask = |arguments: &[&str]| {
            let mut all = vec!["-k", version, "-i", &url];
            all.extend(arguments);
            text(&network.place.curl(&all))
        };
        let given = eventually("the map is given", || {
            let said = ask(&["-H", &bearer]);
            said.contains(" 200").then_some(said)
        });
        let (head, body) = given.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.as_bytes(), map, "as it was signed");
        let tag = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("etag: ").map(str::to_owned))
            .unwrap();
        let same = ask(&["-H", &bearer, "-H", &format!("If-None-Match: {tag}")]);
        assert!(same.contains(" 304") && same.ends_with("\r\n\r\n"), "{same}");
        let stranger = ask(&[]);
        assert!(
            stranger.contains(" 404") && !stranger.contains("payload"),
            "{stranger}"
        );
    }
}

#[test]
fn a_client_proves_its_key_on_its_own_connection() {
    let mut network = Network::new();
    let key = Ed25519KeyPair::generate().unwrap();
    network.client_keys.push(public(&key).unwrap());
    let _node = network.place.far.echo(network.place.server.v4, 7000);
    network
        .place
        .put("gate17-map.json", &network.map(1, Access::Key, true));
    let (node, target) = (
        (network.place.node.v4, 443).into(),
        format!("{}:7000", network.place.server.v4),
    );
    let proof = move |key: &Ed25519KeyPair, connection: &rustls::ClientConnection| {
        let origin = Origin {
            scheme: "https",
            host: "localhost",
            port: 443,
            realm: "",
        };
        let context = exporter_context(&public(key).unwrap(), origin);
        let exported = connection
            .export_keying_material([0; EXPORTED], EXPORTER_LABEL, Some(&context))
            .unwrap();
        concealed(key, &exported)
    };
    let shown = eventually("who has the key is carried", || {
        let target = target.clone();
        within(&network.place.client, async {
            let client = connect_showing(node, |connection| proof(&key, connection)).await;
            for _ in 0..2 {
                let (response, _stream) = client.open(&target).await;
                if response.status() != StatusCode::OK {
                    return None;
                }
            }
            client.shown
        })
    });
    let stranger = Ed25519KeyPair::generate().unwrap();
    let status = |showing: &(dyn Fn(&rustls::ClientConnection) -> Option<String> + Sync)| {
        let target = target.clone();
        within(&network.place.client, async move {
            let client = connect_showing(node, showing).await;
            client.open(&target).await.0.status()
        })
    };
    assert_ne!(
        status(&|_| Some(shown.clone())),
        StatusCode::OK,
        "of another connection"
    );
    assert_ne!(status(&|connection| proof(&stranger, connection)), StatusCode::OK);
    assert_ne!(
        status(&|_| Some(format!("Bearer {}", map_token(&KNOCK)))),
        StatusCode::OK
    );
    assert_eq!(status(&|connection| proof(&key, connection)), StatusCode::OK);
}

#[test]
fn who_opens_too_often_is_told_to_wait_and_others_are_not() {
    let place = Place::new(&format!("{}limits.opens_per_second = 5\n", crate::place::OPEN));
    let target = place.far.echo(place.server.v4, 7000).to_string();
    let node = (place.node.v4, 443).into();
    within(&place.client, async move {
        let client = connect(node).await;
        let mut refused = 0;
        for _ in 0..60 {
            let (response, _stream) = client.open(&target).await;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::SERVICE_UNAVAILABLE => refused += 1,
                other => panic!("{other}"),
            }
        }
        assert!(refused > 0, "60 at once are more than 20, and 5 a second");
        // in the long run it may
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if client.open(&target).await.0.status() == StatusCode::OK {
                break;
            }
        }
    });
}

#[test]
fn many_may_come_by_a_relay_of_the_map() {
    let network = Network::with("limits.connections_per_network = 2\n");
    // those that are not closed at once
    let kept = || {
        let callers: Vec<_> = (0..10).map(|_| network.place.say(443, b"").unwrap()).collect();
        thread::sleep(Duration::from_millis(200));
        let is_open = |mut caller: &TcpStream| {
            caller.set_nonblocking(true).unwrap();
            caller
                .read(&mut [0])
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        callers.iter().filter(|caller| is_open(caller)).count()
    };
    assert_eq!(kept(), 2);
    // it says that a relay is where the client is
    network
        .place
        .put("gate17-map.json", &network.map(1, Access::Map, true));
    eventually("all ten are let in", || (kept() == 10).then_some(()));
}
