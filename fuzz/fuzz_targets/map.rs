//! Any octets are refused as a map, as an envelope or as what is in one: nobody signed them.
#![no_main]

use gate17_proto::map::{Envelope, Held, MAP_TYPE, PublicKey, Root, Trust};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let root = Root {
        version: 1,
        threshold: 1,
        keys: vec![PublicKey([1; 32])],
    };
    let trust = Trust {
        network: "example".into(),
        root,
    };
    assert!(Held::restore(trust.clone(), bytes).is_err());
    let envelope = serde_json::to_vec(&Envelope::new(MAP_TYPE, bytes)).unwrap();
    assert!(Held::restore(trust, &envelope).is_err());
});
