//! Names that no upstream may be asked for, or not just any (RFC 6761 and IANA's registry "Special-Use Domain Names").

mod reverse;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Name,
    wire::{Query, Reply, Writer, Written, code, extended, kind},
};

/// How long clients keep what is decided here, in seconds: long enough to be cheap, short enough that a setting takes hold.
const TTL: u32 = 300;

/// What is switchable, and what this host knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Browsers are told to leave DNS to the system: `use-application-dns.net` does not exist (Firefox).
    pub browser_canary: bool,
    /// Private Relay is told that it may not be used: `mask.icloud.com` and `mask-h2.icloud.com` do not exist (Apple).
    pub relay_canary: bool,
    /// This host's name, for the reverse lookup of its own addresses.
    pub host: Name,
}

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As with any other name.
    Ordinary,
    /// Answered here.
    Answered(Answered),
    /// Only a server of the network that the host is in can know; where there is none, or it does not, the name does not
    /// exist. Never asked of public servers.
    Network(Zone),
}

/// Zones that only the network at hand can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// `local`: multicast DNS (RFC 6762), left to the system.
    Local,
    /// `home.arpa`: the home's own names (RFC 8375).
    Home,
    /// Names of private addresses (RFC 6303, RFC 7793).
    Reverse,
}

/// An answer, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What.
    pub what: What,
    /// Why, in words; the same for each name of the sort.
    pub why: &'static str,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// An address.
    Address(IpAddr),
    /// A name, for an address.
    Pointer(Name),
    /// The name exists, but not with such records.
    NoData,
    /// There is no such name.
    NxDomain,
}

/// What is to be done with the question for `kind` records of `name` (wire form, lower-cased). `is_own` says whether an
/// address is one of this host's.
pub fn outcome(name: &[u8], kind: u16, settings: &Settings, is_own: impl Fn(IpAddr) -> bool) -> Outcome {
    let mut labels = labels(name);
    let Some(top) = labels.next_back() else {
        return Outcome::Ordinary;
    };
    let second = labels.next_back();
    let third = labels.next_back();
    let leaf = labels.next_back().is_none();
    match (top, second, third) {
        (b"localhost", ..) => localhost(kind),
        (b"invalid", ..) => no_such("\"invalid\" names nothing (RFC 6761)"),
        (b"test", ..) => no_such("\"test\" is for tests (RFC 6761)"),
        (b"onion", ..) => no_such("\"onion\" names are for Tor, not for DNS (RFC 7686)"),
        (b"alt", ..) => no_such("\"alt\" names are none of DNS (RFC 9476)"),
        (b"local", ..) => Outcome::Network(Zone::Local),
        (b"arpa", Some(b"home"), _) => Outcome::Network(Zone::Home),
        (b"arpa", Some(b"service"), _) => no_such("\"service.arpa\" is for the network at hand (RFC 9665)"),
        (b"arpa", Some(b"resolver"), _) => {
            answered(What::NoData, "this server offers no other way to it (RFC 9462)")
        }
        (b"arpa", Some(b"in-addr" | b"ip6"), _) => reverse_of(name, kind, settings, is_own),
        (b"net", Some(b"use-application-dns"), None) if settings.browser_canary => {
            no_such("browsers are to leave DNS to this host")
        }
        (b"com", Some(b"icloud"), Some(b"mask" | b"mask-h2")) if settings.relay_canary && leaf => {
            no_such("Private Relay would go round this host's rules")
        }
        _ => Outcome::Ordinary,
    }
}

impl Answered {
    /// Writes it.
    pub fn write(&self, query: &Query, reply: &Reply, out: &mut Vec<u8>) -> Written {
        let mut writer = Writer::begin(query, out);
        match &self.what {
            What::Address(IpAddr::V4(address)) => writer
                .answer(kind::A, TTL, &[&address.octets()])
                .finish(code::NOERROR, reply),
            What::Address(IpAddr::V6(address)) => writer
                .answer(kind::AAAA, TTL, &[&address.octets()])
                .finish(code::NOERROR, reply),
            What::Pointer(name) => writer
                .answer(kind::PTR, TTL, &[name.as_wire()])
                .finish(code::NOERROR, reply),
            What::NoData => writer.negative(TTL).finish(code::NOERROR, reply),
            What::NxDomain => {
                writer.extended_error(extended::BLOCKED, self.why);
                writer.negative(TTL).finish(code::NXDOMAIN, reply)
            }
        }
    }
}

fn answered(what: What, why: &'static str) -> Outcome {
    Outcome::Answered(Answered { what, why })
}

fn no_such(why: &'static str) -> Outcome {
    answered(What::NxDomain, why)
}

fn localhost(kind: u16) -> Outcome {
    let what = match kind {
        kind::A => What::Address(Ipv4Addr::LOCALHOST.into()),
        kind::AAAA => What::Address(Ipv6Addr::LOCALHOST.into()),
        _ => What::NoData,
    };
    answered(what, "\"localhost\" is this host (RFC 6761)")
}

fn reverse_of(name: &[u8], kind: u16, settings: &Settings, is_own: impl Fn(IpAddr) -> bool) -> Outcome {
    let Some(prefix) = reverse::Prefix::read(name) else {
        return Outcome::Ordinary;
    };
    let address = prefix.address();
    let pointer = |host: Name, why| match kind {
        kind::PTR => answered(What::Pointer(host), why),
        _ => answered(What::NoData, why),
    };
    match address {
        Some(address) if address.is_loopback() => {
            // a label that is none cannot be in a constant
            let localhost = Name::parse("localhost").unwrap_or_else(|_| Name::root());
            pointer(localhost, "the address is this host's (RFC 6761)")
        }
        Some(address) if is_own(address) => pointer(settings.host.clone(), "the address is this host's"),
        _ if prefix.is_private() => Outcome::Network(Zone::Reverse),
        _ => Outcome::Ordinary,
    }
}

fn labels(name: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    // no name has more than 127 labels; only the last four matter
    let mut last: [&[u8]; 4] = [&[]; 4];
    for suffix in crate::name::suffixes(name) {
        let label = suffix
            .split_first()
            .and_then(|(length, rest)| rest.get(..usize::from(*length)));
        last.rotate_left(1);
        if let Some(place) = last.last_mut() {
            *place = label.unwrap_or_default();
        }
    }
    last.into_iter().filter(|label| !label.is_empty())
}

#[cfg(test)]
mod tests;
