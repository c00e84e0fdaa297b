//! Any datagrams say a name, none, or need more; so do any frames behind the seal, which no fuzzer can make; and a name is
//! one. The first octet says which of both, then come pieces, each with its length in two octets before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verdict::sniff::{Sniffed, quic};

fuzz_target!(|bytes: &[u8]| {
    let Some((how, rest)) = bytes.split_first() else { return };
    let pieces = pieces(rest);
    for piece in &pieces {
        quic::is_beginning(piece);
    }
    let sniffed = if how & 1 == 0 {
        quic::name(pieces)
    } else {
        quic::name_in_frames(pieces)
    };
    if let Sniffed::Name(name) = sniffed {
        assert!(!name.is_empty() && name.len() <= 253 && name == name.to_ascii_lowercase());
    }
});

fn pieces(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let [l0, l1, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1])).min(behind.len());
        let (piece, next) = behind.split_at(length);
        pieces.push(piece);
        rest = next;
    }
    pieces
}
