//! Words of the wire as the stable texts of `verdict`; "" for a word that this program does not know.

use std::net::IpAddr;

use proto::{flow::v1 as flow, resolver::v1::Miss};
use verdict::{Direction, Protocol, Scope, Verdict, Why};

pub(crate) fn direction(word: flow::Direction) -> &'static str {
    Option::<Direction>::from(word).map_or("", Direction::text)
}

pub(crate) fn scope(word: flow::Scope) -> &'static str {
    Option::<Scope>::from(word).map_or("", Scope::text)
}

pub(crate) fn verdict(word: flow::Verdict) -> &'static str {
    Option::<Verdict>::from(word).map_or("", Verdict::text)
}

pub(crate) fn why(word: flow::Why) -> &'static str {
    Option::<Why>::from(word).map_or("", Why::text)
}

/// Why a process is not known.
pub(crate) const fn miss(word: Miss) -> &'static str {
    match word {
        Miss::Unspecified => "",
        Miss::NoSocket => "no-socket",
        Miss::NoProcess => "no-process",
        Miss::Timeout => "timeout",
        Miss::Searching => "searching",
    }
}

pub(crate) fn protocol(number: u32) -> Option<Protocol> {
    u8::try_from(number).ok().map(Protocol)
}

/// 4 or 16 octets; "" for anything else.
pub(crate) fn address_text(bytes: &[u8]) -> String {
    address(bytes).map_or_else(String::new, |address| address.to_string())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
