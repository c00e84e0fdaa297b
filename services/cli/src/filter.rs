//! Which connections: values of one option are alternatives, options narrow each other.

use std::{net::IpAddr, str::FromStr};

use clap::{Args, ValueEnum};
use verdict::Protocol;

use crate::event_json::{EventJson, ProcessJson};

/// Options that select connections.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which connections (values of one option are alternatives)")]
pub struct FilterArgs {
    /// Programs: part of the path or name of program or script
    #[arg(long, value_name = "TEXT")]
    pub app: Vec<String>,
    /// Verdicts
    #[arg(long, value_enum, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<VerdictArg>,
    /// Who opened it
    #[arg(long, value_enum, value_name = "DIRECTION")]
    pub direction: Option<DirectionArg>,
    /// tcp, udp, icmp, icmpv6, … or a number
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = protocol)]
    pub protocol: Vec<Protocol>,
    /// The other end: an address or network (192.0.2.0/24), with or without a port behind it (192.0.2.1:443)
    #[arg(long, value_name = "ADDRESS")]
    pub remote: Vec<AddressPattern>,
    /// Names: example.com alone, or *.example.com with all below it
    #[arg(long, value_name = "NAME")]
    pub domain: Vec<DomainPattern>,
    /// Profiles, by id
    #[arg(long, value_name = "ID")]
    pub profile: Vec<String>,
    /// Users, by id
    #[arg(long, value_name = "UID")]
    pub uid: Vec<u32>,
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictArg {
    /// Passed.
    Allow,
    /// Refused with an error.
    Block,
    /// Refused without a word.
    Drop,
    /// Into Gate17.
    Tunnel,
    /// To the local DNS server.
    RedirectDns,
}

impl VerdictArg {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Drop => "drop",
            Self::Tunnel => "tunnel",
            Self::RedirectDns => "redirect-dns",
        }
    }
}

/// Who opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionArg {
    /// A program on this host.
    Out,
    /// Somebody else.
    In,
}

impl DirectionArg {
    const fn text(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

impl FilterArgs {
    /// True if the connection is wanted.
    pub fn matches(&self, event: &EventJson) -> bool {
        any(&self.app, |text| is_app(event, text))
            && any(&self.verdict, |verdict| verdict.text() == event.verdict)
            && self
                .direction
                .is_none_or(|direction| direction.text() == event.direction)
            && any(&self.protocol, |protocol| is_protocol(*protocol, &event.protocol))
            && any(&self.remote, |pattern| {
                pattern.matches(&event.remote, event.remote_port)
            })
            && any(&self.domain, |pattern| pattern.matches(&event.domain))
            && any(&self.profile, |profile| *profile == event.profile)
            && any(&self.uid, |uid| event.uid == Some(*uid))
    }
}

/// An option that was not given wants everything.
pub(crate) fn any<T>(wanted: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

fn is_app(event: &EventJson, text: &str) -> bool {
    event
        .process
        .as_ref()
        .is_some_and(|process| is_process(process, text))
}

/// True where `text` is part of a path or name of the program or its script.
pub(crate) fn is_process(process: &ProcessJson, text: &str) -> bool {
    let text = text.to_lowercase();
    let names = [
        &process.path,
        &process.claimed_path,
        &process.script,
        &process.comm,
    ];
    names.into_iter().any(|name| name.to_lowercase().contains(&text))
}

fn is_protocol(wanted: Protocol, word: &str) -> bool {
    Protocol::parse(word) == Some(wanted)
}

/// A protocol by name or number.
///
/// # Errors
/// Where it is neither.
pub fn protocol(text: &str) -> Result<Protocol, String> {
    Protocol::parse(text)
        .ok_or_else(|| "no such protocol: give a name like tcp, udp, icmp, or a number up to 255".to_owned())
}

/// An address or network, with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    address: IpAddr,
    /// Leading bits that count.
    length: u8,
    port: Option<u16>,
}

impl AddressPattern {
    fn matches(&self, address: &str, port: Option<u16>) -> bool {
        let Ok(address) = address.parse::<IpAddr>() else {
            return false;
        };
        let port_matches = self.port.is_none() || self.port == port;
        port_matches
            && prefix(address, self.length) == prefix(self.address, self.length)
            && address.is_ipv4() == self.address.is_ipv4()
    }
}

/// The leading `length` bits, as a number.
fn prefix(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    bits.checked_shr(width - u32::from(length).min(width))
        .unwrap_or_default()
}

impl FromStr for AddressPattern {
    type Err = String;

    /// `ADDRESS`, `ADDRESS/LENGTH`, `V4:PORT`, `[V6]:PORT`
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "give an address (192.0.2.7), a network (2001:db8::/32), or one with a port ([2001:db8::7]:443)"
                .to_owned()
        };
        if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self {
                address: socket.ip(),
                length: full(socket.ip()),
                port: Some(socket.port()),
            });
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length = length.unwrap_or_else(|| full(address));
        if length > full(address) {
            Err(wrong())
        } else {
            Ok(Self {
                address,
                length,
                port: None,
            })
        }
    }
}

const fn full(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A name, or a zone with all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainPattern {
    name: String,
    zone: bool,
}

impl DomainPattern {
    pub(crate) fn matches(&self, domain: &str) -> bool {
        let domain = domain.to_lowercase();
        let below = || {
            domain
                .strip_suffix(&self.name)
                .is_some_and(|rest| rest.ends_with('.'))
        };
        domain == self.name || (self.zone && below())
    }
}

impl FromStr for DomainPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, zone) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let name = name.trim_end_matches('.').to_lowercase();
        if name.is_empty() || name.contains('*') {
            return Err("give a name (example.com) or a zone (*.example.com)".to_owned());
        }
        Ok(Self { name, zone })
    }
}

#[cfg(test)]
mod tests;
