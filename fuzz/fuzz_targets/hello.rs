//! Any octets have a name, none, or need more; and a name is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verdict::sniff::{Sniffed, name};

fuzz_target!(|bytes: &[u8]| {
    if let Sniffed::Name(name) = name(bytes) {
        assert!(!name.is_empty() && name.len() <= 253 && name == name.to_ascii_lowercase());
    }
});
