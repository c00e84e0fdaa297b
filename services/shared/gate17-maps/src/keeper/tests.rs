use std::thread;

use aws_lc_rs::signature::Ed25519KeyPair;
use daemon::About;
use gate17_proto::map::{Envelope, MAP_TYPE, Root, public};
use tempfile::TempDir;

use super::*;

struct Host {
    folder: TempDir,
    key: Ed25519KeyPair,
    status: Status,
}

impl Host {
    fn new() -> Self {
        let status = Status::new(About {
            name: "test",
            version: "",
        });
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
            key: Ed25519KeyPair::generate().unwrap(),
            status,
        };
        host.put("trust", &serde_json::to_vec(&host.trust()).unwrap());
        host
    }

    fn trust(&self) -> Trust {
        Trust {
            network: "test".to_owned(),
            root: self.root(),
        }
    }

    fn root(&self) -> Root {
        Root {
            version: 1,
            threshold: 1,
            keys: vec![public(&self.key).unwrap()],
        }
    }

    fn put(&self, name: &str, content: &[u8]) {
        daemon::files::replace(&self.folder.path().join(name), content).unwrap();
    }

    /// An envelope that holds for a day, or is over for two.
    fn map(&self, serial: u64, key: &Ed25519KeyPair, holds: bool) -> Vec<u8> {
        let (mut map, now) = (crate::testing::map(2), Timestamp::now());
        let hours = |hours| now + jiff::SignedDuration::from_hours(hours);
        map.serial = serial;
        map.root = self.root();
        map.issued = hours(-72);
        map.expires = hours(if holds { 24 } else { -48 });
        let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map).unwrap());
        assert!(envelope.sign(key));
        serde_json::to_vec(&envelope).unwrap()
    }

    fn start(&self) -> Maps {
        let at = |name: &str| self.folder.path().join(name);
        let files = vec![at("first"), at("second")];
        Maps::new(at("trust"), files, &at("state"), self.status.clone())
    }
}

#[test]
fn a_file_that_is_refused_does_not_hide_the_next_one() {
    let host = Host::new();
    let stranger = Ed25519KeyPair::generate().unwrap();
    host.put("first", &host.map(9, &stranger, true));
    host.put("second", &host.map(1, &host.key, true));
    let maps = host.start();
    assert_eq!(maps.map().unwrap().serial, 1);
    let problem = maps.told().problem;
    assert!(
        problem.contains("first") && !problem.contains("second"),
        "{problem}"
    );
    host.put("first", &host.map(2, &host.key, true));
    maps.look();
    assert_eq!(
        (maps.map().unwrap().serial, maps.told().problem),
        (2, String::new())
    );
}

#[test]
fn an_old_map_that_lies_there_is_none_that_is_offered_but_one_that_is_put_there_is() {
    let host = Host::new();
    host.put("first", &host.map(1, &host.key, true));
    let maps = host.start();
    maps.offer(&host.map(2, &host.key, true), "node alpha").unwrap();
    let again = host.start();
    assert_eq!(
        (again.map().unwrap().serial, again.told().problem),
        (2, String::new())
    );
    // the times of files go by the kernel's ticks: two in one would be of the same time
    thread::sleep(Duration::from_millis(50));
    host.put("first", &host.map(1, &host.key, true));
    again.look();
    assert_eq!(again.map().unwrap().serial, 2);
    assert!(
        again.told().problem.contains("serial 1"),
        "{}",
        again.told().problem
    );
}

#[test]
fn what_was_held_is_held_after_a_restart_and_what_cannot_be_restored_is_no_obstacle() {
    let host = Host::new();
    host.put("first", &host.map(3, &host.key, true));
    assert_eq!(host.start().map().unwrap().serial, 3);
    fs::remove_file(host.folder.path().join("first")).unwrap();
    let maps = host.start();
    assert_eq!(maps.map().unwrap().serial, 3);
    assert!(maps.told().source.ends_with("map.json"));
    host.put("state/map.json", b"{");
    let maps = host.start();
    assert!(maps.map().is_err());
    maps.offer(&host.map(4, &host.key, true), "node alpha").unwrap();
    assert_eq!(maps.told().source, "node alpha");
}

#[test]
fn a_map_that_is_over_is_known_but_not_used() {
    let host = Host::new();
    host.put("state/map.json", &host.map(3, &host.key, false));
    let maps = host.start();
    assert!(maps.map().unwrap_err().text.contains("expired"));
    assert_eq!(maps.latest().unwrap().serial, 3);
    assert!(maps.told().problem.contains("expired"));
    maps.offer(&host.map(4, &host.key, true), "node alpha").unwrap();
    maps.look();
    assert_eq!(
        (maps.map().unwrap().serial, maps.told().problem),
        (4, String::new())
    );
}

#[test]
fn another_trust_is_taken_up_with_the_maps_that_it_signs() {
    let mut host = Host::new();
    host.put("first", &host.map(3, &host.key, true));
    let maps = host.start();
    host.key = Ed25519KeyPair::generate().unwrap();
    host.put("second", &host.map(1, &host.key, true));
    host.put("trust", &serde_json::to_vec(&host.trust()).unwrap());
    maps.look();
    assert_eq!(maps.map().unwrap().serial, 1);
}

#[test]
fn a_host_without_a_network_has_no_problem() {
    let host = Host::new();
    fs::remove_file(host.folder.path().join("trust")).unwrap();
    let maps = host.start();
    assert!(maps.map().is_err() && maps.told().problem.is_empty());
}
