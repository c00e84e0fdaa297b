//! Which servers there are, as an owner writes them: `tls://9.9.9.9#dns.quad9.net`.
//!
//! Pure, and strict: what cannot be meant is refused with the remedy. A server in the clear is never one by accident; its
//! scheme says so.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, de};

mod parse;
mod table;

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In the clear, over UDP, and TCP for what is too long (RFC 1035).
    Udp,
    /// In the clear, over TCP only (RFC 7766).
    Tcp,
    /// Over TLS (RFC 7858).
    Tls,
    /// Over HTTP/2 (RFC 8484).
    Https,
    /// Over HTTP/3 (RFC 8484, 9114).
    H3,
    /// Over QUIC (RFC 9250).
    Quic,
}

impl Transport {
    /// The scheme that names it.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Quic => "quic",
        }
    }

    /// The port that its registry entry names.
    pub fn port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 53,
            Self::Tls | Self::Quic => 853,
            Self::Https | Self::H3 => 443,
        }
    }

    /// Whether nobody on the way can read or change what is asked and answered.
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    fn has_path(self) -> bool {
        matches!(self, Self::Https | Self::H3)
    }
}

/// One upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As logs, events and `portmaster dns upstreams` call it.
    pub label: Arc<str>,
    /// How it is spoken to.
    pub transport: Transport,
    /// The name (or the address as text) that its certificate has to prove; empty in the clear.
    pub name: Arc<str>,
    /// Where it is; empty where the name is looked up by the bootstrap servers first.
    pub addresses: Vec<SocketAddr>,
    /// The port, also for addresses that are still to be looked up.
    pub port: u16,
    /// The path of its HTTP resource; empty elsewhere.
    pub path: Arc<str>,
    /// The only authorities that may vouch for its name; those of the system where it is `None`.
    pub ca_file: Option<PathBuf>,
    /// Whether letters of the question change their case at random (0x20), in the clear only.
    pub case_randomisation: bool,
    /// Whether cookies (RFC 7873) are exchanged, over UDP only.
    pub cookies: bool,
}

/// Why a text names no upstream server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("upstream {text:?}: {problem}")]
pub struct DefinitionError {
    text: String,
    problem: String,
}

impl DefinitionError {
    fn new(text: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            problem: problem.into(),
        }
    }
}

impl Definition {
    /// A server of the network itself, which speaks the oldest way: in the clear.
    pub fn plain(address: SocketAddr) -> Self {
        let port = address.port();
        let scope = match address {
            SocketAddr::V6(six) if six.scope_id() != 0 => format!("%{}", six.scope_id()),
            _ => String::new(),
        };
        let mut label = match address.ip() {
            IpAddr::V4(four) => format!("udp://{four}"),
            IpAddr::V6(six) => format!("udp://[{six}{scope}]"),
        };
        if port != Transport::Udp.port() {
            label = format!("{label}:{port}");
        }
        Self {
            label: label.into(),
            transport: Transport::Udp,
            name: "".into(),
            addresses: vec![address],
            port,
            path: "".into(),
            ca_file: None,
            case_randomisation: true,
            cookies: true,
        }
    }

    /// Whether its name has to be looked up before it can be reached.
    pub fn needs_bootstrap(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl FromStr for Definition {
    type Err = DefinitionError;

    fn from_str(text: &str) -> Result<Self, DefinitionError> {
        parse::parse(text)
    }
}

impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

impl<'de> Deserialize<'de> for Definition {
    /// A text, or a table with the key `server` and what stands beside it.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Definition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an upstream server, as in \"tls://9.9.9.9#dns.quad9.net\", or a table with the key `server`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Definition, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Definition, A::Error> {
                let table = table::Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                table.build().map_err(de::Error::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests;
