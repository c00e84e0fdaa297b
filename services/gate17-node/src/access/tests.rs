use aws_lc_rs::signature::Ed25519KeyPair;
use daemon::{About, status::Status};
use gate17_proto::{
    access::{EXPORTED, concealed, map_token},
    map::{Envelope, MAP_TYPE, Root, Secret, Trust, public},
};
use jiff::Timestamp;

use super::*;

fn with(name: header::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, value.parse().unwrap())])
}

#[test]
fn a_token_is_known_by_its_digest_however_it_is_shown() {
    let hex: String = Sha256::digest(b"open sesame")
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let access = Access::Tokens(vec![digest(&hex).unwrap()]);
    let basic = base64::engine::general_purpose::STANDARD.encode("me:open sesame");
    let caller = Caller::default();
    for (value, admitted) in [
        ("Bearer open sesame".to_owned(), true),
        ("bearer open sesame".to_owned(), true),
        (format!("Basic {basic}"), true),
        ("Bearer open sesam".to_owned(), false),
        ("Bearer".to_owned(), false),
        ("Digest open sesame".to_owned(), false),
    ] {
        for name in [header::PROXY_AUTHORIZATION, header::AUTHORIZATION] {
            assert_eq!(access.admits(&with(name, &value), &caller), admitted, "{value}");
        }
    }
    assert!(!access.admits(&HeaderMap::new(), &caller));
    assert!(Access::Everybody.admits(&HeaderMap::new(), &caller));
    assert!(!Access::Nobody.admits(&HeaderMap::new(), &caller));
}

/// Maps that hold one with such access and client keys.
fn maps(access: map::Access, keys: &[PublicKey]) -> (tempfile::TempDir, Maps) {
    let (folder, root) = (tempfile::tempdir().unwrap(), Ed25519KeyPair::generate().unwrap());
    let root_keys = Root {
        version: 1,
        threshold: 1,
        keys: vec![public(&root).unwrap()],
    };
    let trust = Trust {
        network: "test".to_owned(),
        root: root_keys.clone(),
    };
    let map = Map {
        format: 1,
        network: "test".to_owned(),
        serial: 1,
        issued: Timestamp::now(),
        expires: Timestamp::MAX,
        root: root_keys,
        rotations: Vec::new(),
        access,
        knock: Secret([7; 32]),
        tokens: vec![gate17_proto::access::token_digest("own")],
        client_keys: keys.to_vec(),
        nodes: Vec::new(),
    };
    let mut envelope = Envelope::new(MAP_TYPE, &serde_json::to_vec(&map).unwrap());
    assert!(envelope.sign(&root));
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("trust"), serde_json::to_vec(&trust).unwrap()).unwrap();
    std::fs::write(at("map"), serde_json::to_vec(&envelope).unwrap()).unwrap();
    let status = Status::new(About {
        name: "test",
        version: "",
    });
    let maps = Maps::new(at("trust"), vec![at("map")], &at("state"), status);
    assert!(maps.map().is_ok());
    (folder, maps)
}

#[test]
fn the_map_says_who_is_admitted() {
    let bearer = |token: &str| with(header::PROXY_AUTHORIZATION, &format!("Bearer {token}"));
    let knock = map_token(&Secret([7; 32]));
    for (access, nothing, by_knock, by_own) in [
        (map::Access::None, true, true, true),
        (map::Access::Map, false, true, false),
        (map::Access::Token, false, false, true),
        (map::Access::Key, false, false, false),
    ] {
        let (_folder, maps) = maps(access, &[]);
        let (own, caller) = (Access::Map(maps, KeyPin([1; 32])), Caller::default());
        assert_eq!(own.is_open(), nothing);
        let admitted =
            [HeaderMap::new(), bearer(&knock), bearer("own")].map(|shown| own.admits(&shown, &caller));
        assert_eq!(admitted, [nothing, by_knock, by_own], "{access:?}");
    }
}

#[test]
fn a_key_is_admitted_on_the_connection_that_it_was_proved_for() {
    let (known, stranger) = (
        Ed25519KeyPair::generate().unwrap(),
        Ed25519KeyPair::generate().unwrap(),
    );
    let (_folder, maps) = maps(map::Access::Key, &[public(&known).unwrap()]);
    let access = Access::Map(maps, KeyPin([1; 32]));
    let exporting = |octet: u8| Caller::new(Exporter::new(move |_| Some([octet; EXPORTED])));
    let shown = |key: &Ed25519KeyPair| {
        with(
            header::PROXY_AUTHORIZATION,
            &concealed(key, &[3; EXPORTED]).unwrap(),
        )
    };
    let caller = exporting(3);
    for _ in 0..2 {
        assert!(access.admits(&shown(&known), &caller));
        assert!(!access.admits(&shown(&stranger), &caller));
    }
    assert!(
        !access.admits(&shown(&known), &exporting(4)),
        "of another connection"
    );
    assert!(!access.admits(&shown(&known), &Caller::default()), "without TLS");
}
