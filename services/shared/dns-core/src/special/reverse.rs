//! Names of addresses: `in-addr.arpa` and `ip6.arpa`.

use std::net::IpAddr;

/// The beginning of an address, as a reverse name or one of its zones says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    is_v6: bool,
    /// The bits, the first on top.
    bits: u128,
    /// How many.
    length: u32,
}

/// Prefixes whose names no public server knows: RFC 6303 §4, RFC 7793.
const PRIVATE_V4: [([u8; 4], u32); 12] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 2, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([255, 255, 255, 255], 32),
    ([240, 0, 0, 0], 4),
];
const PRIVATE_V6: [(u128, u32); 6] = [
    (0, 128),
    (1, 128),
    (0xfc << 120, 7),
    (0xfe80 << 112, 10),
    (0xfec0 << 112, 10),
    (0x2001_0db8 << 96, 32),
];

impl Prefix {
    /// Reads a name in wire form; none where it stands for no address or zone of addresses.
    pub(super) fn read(name: &[u8]) -> Option<Self> {
        let mut labels = Vec::with_capacity(34);
        for suffix in crate::name::suffixes(name) {
            let (length, rest) = suffix.split_first()?;
            labels.push(rest.get(..usize::from(*length))?);
        }
        let (_arpa, family) = (labels.pop()?, labels.pop()?);
        let is_v6 = family == b"ip6";
        let (step, most) = if is_v6 { (4, 32) } else { (8, 4) };
        if labels.len() > most {
            return None;
        }
        let (mut bits, mut length) = (0u128, 0);
        for label in labels.iter().rev() {
            let value = if is_v6 { nibble(label) } else { octet(label) }?;
            length += step;
            bits |= u128::from(value) << (128 - length);
        }
        Some(Self { is_v6, bits, length })
    }

    /// The address, if it is a whole one.
    pub(super) fn address(self) -> Option<IpAddr> {
        match (self.is_v6, self.length) {
            (true, 128) => Some(IpAddr::V6(self.bits.into())),
            (false, 32) => Some(IpAddr::V4(((self.bits >> 96) as u32).into())),
            _ => None,
        }
    }

    /// Whether all of it is private.
    pub(super) fn is_private(self) -> bool {
        if self.is_v6 {
            return PRIVATE_V6
                .iter()
                .any(|(bits, length)| self.is_within(*bits, *length));
        }
        let v4 = |octets: [u8; 4]| u128::from(u32::from_be_bytes(octets)) << 96;
        PRIVATE_V4
            .iter()
            .any(|(octets, length)| self.is_within(v4(*octets), *length))
    }

    fn is_within(self, bits: u128, length: u32) -> bool {
        self.length >= length && (self.bits ^ bits) >> (128 - length) == 0
    }
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
