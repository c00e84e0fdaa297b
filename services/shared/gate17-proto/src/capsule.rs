//! Capsules (RFC 9297 §3.2) that carry datagrams (RFC 9298 §5): on one stream, in pieces of any size.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Type of DATAGRAM.
const DATAGRAM: u64 = 0;
/// Context id of UDP payloads.
const UDP: u64 = 0;
/// Longest UDP payload, octets.
pub const MAX_PAYLOAD: usize = 65_527;
/// Longest header: two integers, and the context's.
const MAX_HEADER: usize = 24;
/// Longest capsule that is passed over, octets: whoever sends longer ones keeps the stream busy with nothing.
const MAX_UNKNOWN: u64 = 1 << 20;

/// Why a stream of capsules cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A datagram that is none.
    #[error("a capsule of {0} octets is too long: close the stream")]
    TooLong(u64),
    /// A datagram without a context.
    #[error("a datagram has no context id: close the stream")]
    NoContext,
}

/// Reads capsules. Holds at most one datagram's octets beside what it is given.
#[derive(Debug, Default)]
pub struct Decoder {
    kept: BytesMut,
    /// Octets of an unknown capsule that are still to come.
    skip: u64,
}

impl Decoder {
    /// More octets of the stream. Call [`Decoder::next`] until it is None before the next.
    pub fn feed(&mut self, octets: &[u8]) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(octets.len());
        self.skip -= skipped as u64;
        self.kept
            .extend_from_slice(octets.get(skipped..).unwrap_or_default());
    }

    /// The next UDP payload; None: more octets are needed.
    ///
    /// # Errors
    /// [`Broken`]; the stream is to be reset then.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator ends; this goes on with more octets"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            let Some((kind, first)) = integer(&self.kept) else {
                return Ok(None);
            };
            let Some((length, second)) = integer(self.kept.get(first..).unwrap_or_default()) else {
                return Ok(None);
            };
            let header = first + second;
            if kind != DATAGRAM {
                if length > MAX_UNKNOWN {
                    return Err(Broken::TooLong(length));
                }
                self.kept.advance(header);
                let here = usize::try_from(length).unwrap_or(usize::MAX).min(self.kept.len());
                self.kept.advance(here);
                self.skip = length - here as u64;
                continue;
            }
            let size = match usize::try_from(length) {
                Ok(size) if size <= MAX_PAYLOAD + 8 => size,
                _ => return Err(Broken::TooLong(length)),
            };
            if self.kept.len() < header + size {
                return Ok(None);
            }
            self.kept.advance(header);
            let mut datagram = self.kept.split_to(size).freeze();
            let (context, octets) = integer(&datagram).ok_or(Broken::NoContext)?;
            datagram.advance(octets);
            // unknown contexts are dropped (RFC 9298 §4)
            if context == UDP {
                if datagram.len() > MAX_PAYLOAD {
                    return Err(Broken::TooLong(length));
                }
                return Ok(Some(datagram));
            }
        }
    }

    /// Octets that wait for their rest.
    pub fn buffered(&self) -> usize {
        self.kept.len()
    }
}

/// Appends a UDP payload as a capsule; false, and nothing appended, where it is longer than [`MAX_PAYLOAD`].
pub fn encode(payload: &[u8], to: &mut BytesMut) -> bool {
    if payload.len() > MAX_PAYLOAD {
        return false;
    }
    to.reserve(payload.len() + MAX_HEADER);
    put_integer(DATAGRAM, to);
    put_integer(payload.len() as u64 + 1, to);
    put_integer(UDP, to);
    to.put_slice(payload);
    true
}

/// A variable-length integer (RFC 9000 §16), and how many octets it takes; None: more are needed.
pub fn integer(octets: &[u8]) -> Option<(u64, usize)> {
    let length = 1_usize << (octets.first()? >> 6);
    let octets = octets.get(..length)?;
    let value = octets
        .iter()
        .fold(0, |value, octet| value << 8 | u64::from(*octet));
    // the first two bits say the length
    Some((value & (u64::MAX >> (66 - 8 * length)), length))
}

/// Appends it in its shortest form; values of 2^62 and more lose their highest two bits.
pub fn put_integer(value: u64, to: &mut BytesMut) {
    match value {
        0..0x40 => to.put_u8(value as u8),
        0x40..0x4000 => to.put_u16(value as u16 | 0x4000),
        0x4000..0x4000_0000 => to.put_u32(value as u32 | 0x8000_0000),
        _ => to.put_u64(value | 0xc000_0000_0000_0000),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(octets: &[u8], piece: usize) -> Result<Vec<Bytes>, Broken> {
        let (mut decoder, mut read) = (Decoder::default(), Vec::new());
        for piece in octets.chunks(piece.max(1)) {
            decoder.feed(piece);
            while let Some(payload) = decoder.next()? {
                read.push(payload);
            }
        }
        Ok(read)
    }

    /// RFC 9000 §A.1.
    #[test]
    fn integers_are_those_of_the_rfc() {
        let examples: [(&[u8], u64); 5] = [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x40, 0x25], 37),
            (&[0x25], 37),
        ];
        for (octets, value) in examples {
            assert_eq!(integer(octets), Some((value, octets.len())));
            assert_eq!(integer(&octets[..octets.len() - 1]), None);
        }
    }

    #[test]
    fn what_is_unknown_is_passed_over() {
        let mut stream = BytesMut::new();
        put_integer(0x1234, &mut stream);
        put_integer(5, &mut stream);
        stream.extend_from_slice(b"other");
        // a datagram of another context
        stream.extend_from_slice(&[0, 2, 3, 9]);
        assert!(encode(b"one", &mut stream));
        for piece in 1..stream.len() {
            assert_eq!(read(&stream, piece).unwrap(), [&b"one"[..]]);
        }
    }

    #[test]
    fn what_is_too_long_or_empty_breaks() {
        assert!(matches!(read(&[0, 0x80, 1, 0, 0], 9), Err(Broken::TooLong(_))));
        assert!(matches!(read(&[1, 0x90, 0, 0, 0], 9), Err(Broken::TooLong(_))));
        assert_eq!(read(&[0, 0], 9), Err(Broken::NoContext));
        assert!(!encode(&vec![0; MAX_PAYLOAD + 1], &mut BytesMut::new()));
    }

    proptest! {
        #[test]
        fn payloads_come_through(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..9), piece in 1..400_usize) {
            let mut stream = BytesMut::new();
            for payload in &payloads {
                prop_assert!(encode(payload, &mut stream));
            }
            prop_assert_eq!(read(&stream, piece).unwrap(), payloads);
        }

        #[test]
        fn any_octets_are_read_alike_in_any_pieces(octets in prop::collection::vec(any::<u8>(), 0..200), piece in 1..20_usize) {
            prop_assert_eq!(read(&octets, piece).is_ok(), read(&octets, 200).is_ok());
        }

        #[test]
        fn integers_come_back(value in 0..1_u64 << 62) {
            let mut octets = BytesMut::new();
            put_integer(value, &mut octets);
            prop_assert_eq!(integer(&octets), Some((value, octets.len())));
        }
    }
}
