//! Octets as hexadecimal digits.

use std::fmt::Write as _;

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

pub(crate) fn octets(digits: &str) -> Option<[u8; 32]> {
    // from_str_radix would take a sign
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = [0; 32];
    for (octet, place) in octets.iter_mut().zip((0..64).step_by(2)) {
        *octet = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
    }
    Some(octets)
}
