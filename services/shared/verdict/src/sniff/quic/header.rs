//! Long headers (RFC 9000 §17.2) and the packets that a datagram is made of (§12.2).

use super::super::{Cut, Reader};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// What has a length: a retry has none, and nothing of ours behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
}

/// One packet, still sealed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) version: Version,
    pub(super) kind: Kind,
    pub(super) destination: &'a [u8],
    /// Up to the packet number, whose length is sealed as well.
    pub(super) header: &'a [u8],
    /// From the packet number on.
    pub(super) sealed: &'a [u8],
}

/// The packets of a datagram, up to what is none.
pub(super) fn packets(datagram: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let (packet, behind) = Packet::parse(rest).ok().flatten()?;
        // some pad behind the last packet; where several datagrams came as one, others follow
        let padding = behind.iter().take_while(|octet| **octet == 0).count();
        rest = behind.get(padding..).unwrap_or_default();
        Some(packet)
    })
}

impl<'a> Packet<'a> {
    /// `None`: it is of another kind or version.
    fn parse(bytes: &'a [u8]) -> Result<Option<(Self, &'a [u8])>, Cut> {
        let mut reader = Reader(bytes);
        let first = reader.number(1)?;
        let version = match reader.number(4)? {
            0x0000_0001 => Version::One,
            0x6b33_43cf => Version::Two,
            _ => return Ok(None),
        };
        let Some(kind) = kind(version, first) else {
            return Ok(None);
        };
        let destination = reader.vector(1)?.0;
        let source = reader.vector(1)?.0;
        if destination.len() > LONGEST_ID || source.len() > LONGEST_ID {
            return Ok(None);
        }
        if kind == Kind::Initial {
            let token = variable(&mut reader)?;
            reader.take(token)?;
        }
        let length = variable(&mut reader)?;
        let header = bytes.get(..bytes.len() - reader.0.len()).ok_or(Cut)?;
        let sealed = reader.take(length)?;
        let packet = Self {
            version,
            kind,
            destination,
            header,
            sealed,
        };
        Ok(Some((packet, reader.0)))
    }
}

const LONGEST_ID: usize = 20;

/// The form bit and the two bits of the type; version 2 has them turned by one (RFC 9369 §3.2).
const fn kind(version: Version, first: usize) -> Option<Kind> {
    if first & 0x80 == 0 {
        return None;
    }
    match (version, first >> 4 & 3) {
        (Version::One, 0) | (Version::Two, 1) => Some(Kind::Initial),
        (Version::One, 1) | (Version::Two, 2) => Some(Kind::ZeroRtt),
        (Version::One, 2) | (Version::Two, 3) => Some(Kind::Handshake),
        _ => None,
    }
}

/// A variable-length integer (RFC 9000 §16).
pub(super) fn variable(reader: &mut Reader<'_>) -> Result<usize, Cut> {
    let first = reader.number(1)?;
    (1..1_usize << (first >> 6)).try_fold(first & 0x3f, |number, _| {
        Ok(number.checked_mul(256).ok_or(Cut)? | reader.number(1)?)
    })
}
