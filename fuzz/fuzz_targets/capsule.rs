//! Any octets are capsules or not, alike in any pieces.
#![no_main]

use gate17_proto::capsule::{Broken, Decoder};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<Broken>) {
    let (mut decoder, mut payloads) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.feed(piece);
        loop {
            match decoder.next() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(broken) => return (payloads, Some(broken)),
            }
        }
    }
    (payloads, None)
}

fuzz_target!(|bytes: &[u8]| assert_eq!(read(bytes, 1 << 20), read(bytes, 3)));
