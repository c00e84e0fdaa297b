//! The IP header of either family, up to the upper protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Malformed;
use crate::Protocol;

/// More than the six kinds that exist, each once, and the one that may come twice (RFC 8200 §4.1).
const MOST_EXTENSIONS: usize = 8;

pub(super) struct Header<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: Protocol,
    /// Carries the upper protocol's header.
    pub(super) first_fragment: bool,
    /// More of it follows in other packets.
    pub(super) fragmented: bool,
    pub(super) payload: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        match bytes.first().map(|octet| octet >> 4) {
            Some(4) => Self::v4(bytes),
            Some(6) => Self::v6(bytes),
            Some(version) => Err(Malformed::Version(version)),
            None => Err(Malformed::CutOff("ip")),
        }
    }

    fn v4(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, _) = bytes.split_first_chunk::<20>().ok_or(Malformed::CutOff("ipv4"))?;
        let [
            first,
            _,
            l0,
            l1,
            _,
            _,
            f0,
            f1,
            _,
            protocol,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = *header;
        let header_length = usize::from(first & 0x0f) * 4;
        let total = usize::from(u16::from_be_bytes([l0, l1]));
        // a segment for offloading may be longer than the field can say: 0 (RFC 2675's way, used by Linux "BIG TCP")
        let total = if total == 0 { bytes.len() } else { total };
        if header_length < 20 || total < header_length {
            return Err(Malformed::Length("ipv4"));
        }
        let end = total.min(bytes.len());
        let fragment = u16::from_be_bytes([f0, f1]);
        Ok(Self {
            source: Ipv4Addr::new(s0, s1, s2, s3).into(),
            destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
            protocol: Protocol(protocol),
            first_fragment: fragment & 0x1fff == 0,
            fragmented: fragment & 0x3fff != 0,
            payload: bytes.get(header_length..end).ok_or(Malformed::CutOff("ipv4"))?,
        })
    }

    fn v6(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = bytes.split_first_chunk::<40>().ok_or(Malformed::CutOff("ipv6"))?;
        let [_, _, _, _, l0, l1, next, _, addresses @ ..] = *header;
        let (source, destination) = addresses.split_at(16);
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let rest = if length == 0 {
            rest
        } else {
            rest.get(..length).unwrap_or(rest)
        };
        let upper = Upper::behind_extensions(next, rest)?;
        Ok(Self {
            source: address(source)?,
            destination: address(destination)?,
            protocol: Protocol(upper.protocol),
            first_fragment: upper.first_fragment,
            fragmented: upper.fragmented,
            payload: upper.payload,
        })
    }
}

fn address(octets: &[u8]) -> Result<IpAddr, Malformed> {
    let octets: [u8; 16] = octets.try_into().map_err(|_| Malformed::CutOff("ipv6"))?;
    let address = Ipv6Addr::from(octets);
    if address.to_ipv4_mapped().is_some() {
        Err(Malformed::Mapped)
    } else {
        Ok(address.into())
    }
}

struct Upper<'a> {
    protocol: u8,
    first_fragment: bool,
    fragmented: bool,
    payload: &'a [u8],
}

impl<'a> Upper<'a> {
    fn behind_extensions(mut protocol: u8, mut payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut fragmented = false;
        for _ in 0..MOST_EXTENSIONS {
            let done = |first_fragment| {
                Ok(Self {
                    protocol,
                    first_fragment,
                    fragmented,
                    payload,
                })
            };
            let length = match (protocol, payload) {
                // hop-by-hop, routing, destination options, mobility, HIP, shim6: in units of 8 beyond the first
                (0 | 43 | 60 | 135 | 139 | 140, &[_, length, ..]) => (usize::from(length) + 1) * 8,
                // authentication header, RFC 4302: in units of 4, less two
                (51, &[_, length, ..]) => (usize::from(length) + 2) * 4,
                (44, &[next, _, o0, o1, ..]) => {
                    let offset = u16::from_be_bytes([o0, o1]);
                    if offset & 0xfff8 != 0 {
                        protocol = next;
                        return Ok(Self {
                            protocol,
                            first_fragment: false,
                            fragmented: true,
                            payload: &[],
                        });
                    }
                    fragmented |= offset & 1 != 0;
                    8
                }
                (0 | 43 | 44 | 51 | 60 | 135 | 139 | 140, _) => {
                    return Err(Malformed::CutOff("ipv6 extension"));
                }
                _ => return done(true),
            };
            protocol = payload
                .first()
                .copied()
                .ok_or(Malformed::CutOff("ipv6 extension"))?;
            payload = payload.get(length..).ok_or(Malformed::CutOff("ipv6 extension"))?;
        }
        Err(Malformed::Extensions)
    }
}
