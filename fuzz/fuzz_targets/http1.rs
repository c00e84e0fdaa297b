//! Heads of HTTP/1 as a node reads them: whatever comes, and in whatever pieces, it is read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, reason = "the node's own, of which a part is called here")]
#[path = "../../services/gate17-node/src/http1.rs"]
mod http1;

use http1::Read;

/// Pieces are tried of heads up to this length.
const PIECES: usize = 512;

fuzz_target!(|octets: &[u8]| {
    let whole = http1::read(octets);
    if let Read::Whole(asked, taken) = &whole {
        assert!(*taken <= octets.len());
        let _ = (asked.fault(), asked.body(), asked.stays(), asked.host().len());
        let _ = asked.says(http::header::CONNECTION, "close");
        // what is behind a head does not matter
        let alone = http1::read(&octets[..*taken]);
        assert!(matches!(alone, Read::Whole(_, same) if same == *taken));
    }
    for length in 0..octets.len().min(PIECES) {
        match (http1::read(&octets[..length]), &whole) {
            (Read::More, _) => {}
            (Read::Whole(_, early), Read::Whole(_, taken)) => assert_eq!(early, *taken),
            (Read::Whole(..), _) => panic!("a whole head is none with more behind it"),
            (Read::Fault(_), Read::Fault(_)) => {}
            (Read::Fault(fault), _) => panic!("{fault:?} in pieces alone"),
        }
    }
});
