//! Any octets are an opening, and what is said of some of them is said of all.
#![no_main]

use gate17_proto::opening::{MAX_LOOKED_AT, Opening, classify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = classify(bytes, false);
    assert!(whole != Opening::NeedMore || bytes.len() < MAX_LOOKED_AT);
    assert_ne!(classify(bytes, true), Opening::NeedMore);
    for length in 0..bytes.len().min(MAX_LOOKED_AT) {
        let said = classify(&bytes[..length], false);
        assert!(said == Opening::NeedMore || said == whole);
    }
});
