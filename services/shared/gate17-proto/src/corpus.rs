//! What was found once stays found: every file of the fuzzers' corpora, through the same parsers.

use crate::{
    capsule::Decoder,
    map::{Envelope, Held, MAP_TYPE, PublicKey, Root, Trust},
    quote::Quotes,
    target::Target,
};

fn files(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/../../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!files.is_empty());
    files
}

#[test]
fn nobody_signed_the_maps() {
    let root = Root {
        version: 1,
        threshold: 1,
        keys: vec![PublicKey([1; 32])],
    };
    let trust = Trust {
        network: "example".into(),
        root,
    };
    for octets in files("map") {
        assert!(Held::restore(trust.clone(), &octets).is_err());
        let envelope = serde_json::to_vec(&Envelope::new(MAP_TYPE, &octets)).unwrap();
        assert!(Held::restore(trust.clone(), &envelope).is_err());
    }
}

#[test]
fn capsules_quotes_and_targets_are_read() {
    for octets in files("capsule") {
        let mut decoder = Decoder::default();
        decoder.feed(&octets);
        while let Ok(Some(_)) = decoder.next() {}
    }
    for octets in files("quote") {
        Quotes::read(&String::from_utf8_lossy(&octets)).pick(1);
    }
    for octets in files("authority") {
        let target: Result<Target, _> = String::from_utf8_lossy(&octets).parse();
        assert!(target.is_ok_and(|target| Target::from_udp_path(&target.udp_path()) == Ok(target)));
    }
}
