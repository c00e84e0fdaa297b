//! Any text has quotes that can be sent.
#![no_main]

use gate17_proto::quote::{MAX_QUOTE, Quotes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let quotes = Quotes::read(text);
    for seed in 0..9 {
        if let Some(quote) = quotes.pick(seed) {
            assert!(quote.len() <= MAX_QUOTE && quote.is_ascii() && quote.ends_with(b"\r\n"));
        }
    }
});
