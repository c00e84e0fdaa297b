//! The EDNS record of a query (RFC 6891) and what stands in it.

use super::{HEADER, Make, PADDING_BLOCK, UDP_SIZE};

/// The COOKIE option (RFC 7873).
pub(crate) const COOKIE: u16 = 10;
/// The Padding option (RFC 7830).
const PADDING: u16 = 12;
/// The Extended DNS Error option (RFC 8914).
pub(crate) const EXTENDED_ERROR: u16 = 15;
/// The OPT record's type.
pub(crate) const OPT: u16 = 41;
/// The bytes of an option before its content.
const OPTION_HEAD: usize = 4;

/// Appends the OPT record.
pub(super) fn write(out: &mut Vec<u8>, make: &Make<'_>) {
    debug_assert!(out.len() > HEADER, "the question stands before the OPT record");
    out.push(0); // the root owns it
    out.extend_from_slice(&OPT.to_be_bytes());
    out.extend_from_slice(&UDP_SIZE.to_be_bytes());
    out.extend_from_slice(&[0, 0, if make.dnssec_ok { 0x80 } else { 0 }, 0]);
    let length_at = out.len();
    out.extend_from_slice(&[0, 0]);
    if let Some(cookie) = make.cookie {
        option(out, COOKIE, cookie);
    }
    if make.pad {
        let bare = out.len() + OPTION_HEAD;
        let missing = bare.next_multiple_of(PADDING_BLOCK) - bare;
        option(
            out,
            PADDING,
            [0; PADDING_BLOCK].get(..missing).unwrap_or_default(),
        );
    }
    let length = u16::try_from(out.len() - length_at - 2).unwrap_or(0);
    if let Some(place) = out.get_mut(length_at..length_at + 2) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn option(out: &mut Vec<u8>, code: u16, content: &[u8]) {
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&u16::try_from(content.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(content);
}
