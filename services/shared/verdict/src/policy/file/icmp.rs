//! ICMP types by name, as ip6tables and iptables call them.

use toml::de::DeValue;

use super::{
    FileError,
    reader::{Key, Reader, Value},
};
use crate::Protocol;

/// RFC 792, 950, 1256.
const V4: [(&str, u8); 10] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
];

/// RFC 4443, 4861, 2710, 3810.
const V6: [(&str, u8); 15] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-query", 130),
    ("mld-report", 131),
    ("mld-done", 132),
    ("router-solicitation", 133),
    ("router-advertisement", 134),
    ("neighbour-solicitation", 135),
    ("neighbour-advertisement", 136),
    ("redirect", 137),
    ("mld2-report", 143),
];

pub(super) fn parse(
    family: Protocol,
    key: &Key<'_>,
    value: &Value<'_>,
    reader: &Reader<'_>,
) -> Result<u8, FileError> {
    let DeValue::String(word) = value.get_ref() else {
        let number = reader.integer(key, value, 0..=255)?;
        return Ok(u8::try_from(number).unwrap_or(u8::MAX));
    };
    let names: &[_] = if family == Protocol::ICMPV6 { &V6 } else { &V4 };
    let named = names
        .iter()
        .find(|(name, _)| name == word)
        .map(|(_, number)| *number);
    named.ok_or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let remedy = format!("write a number, or one of {}", known.join(", "));
        reader.error(
            value.span(),
            format!("no type of {family} is called {word:?}"),
            remedy,
        )
    })
}
