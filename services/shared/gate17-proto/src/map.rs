//! The map: which nodes a network has. One document, signed by the network's root keys.

mod check;
mod document;
mod envelope;
mod held;
pub(crate) mod text;

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

pub use check::{Malformed, alone};
pub use document::{Access, Digest, Map, PublicKey, Root, Rotation, Secret};
pub use envelope::{Envelope, MAP_TYPE, ROOT_TYPE, Signature, public};
pub use held::{Accepted, Held, MAX_LENGTH, Refused, TOLERANCE, Trust};

/// Of one root.
pub const MAX_ROOT_KEYS: usize = 32;

/// SHA-256 of a `SubjectPublicKeyInfo` (DER): by this a node is known, whatever its certificate says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPin(pub [u8; 32]);

/// A node's id: 1 to 32 of `a-z`, `0-9`, `-`; unique in the map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub String);

/// How a node is reached at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// TLS at once.
    Tls,
    /// HTTP/1.1 in the clear, upgraded to TLS (RFC 2817): for networks that let only port 80 out.
    Upgrade,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeAddress {
    /// Always an address: nobody is asked for a node's name.
    pub address: IpAddr,
    /// TCP.
    pub port: u16,
    /// How.
    pub carrier: Carrier,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Unique.
    pub id: NodeId,
    /// Any of these keys is its own.
    pub keys: Vec<KeyPin>,
    /// At least one.
    pub addresses: Vec<NodeAddress>,
    /// Name for SNI and the Host of requests; empty: no SNI.
    #[serde(default)]
    pub name: String,
    /// Two letters of ISO 3166, lower case.
    pub region: String,
    /// Whose: nodes of one family are never on one path.
    pub family: String,
    /// Carries to other nodes of the map.
    pub relay: bool,
    /// Carries to destinations outside; the first that matches decides, and what none matches is refused.
    #[serde(default)]
    pub exit: Vec<ExitRule>,
    /// Mbit/s.
    pub capacity: u64,
    /// Of its software.
    #[serde(default)]
    pub version: String,
}

/// Part of an exit's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRule {
    /// Or refused.
    pub allow: bool,
    /// `*`, a network or an address.
    pub to: String,
    /// `*`, ports and ranges (`80`, `443`, `8000-8999`), separated by commas.
    pub ports: String,
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
impl fmt::Display for KeyPin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("sha256:")?;
        self.0
            .iter()
            .try_for_each(|octet| write!(formatter, "{octet:02x}"))
    }
}
impl From<KeyPin> for String {
    fn from(pin: KeyPin) -> Self {
        pin.to_string()
    }
}
impl TryFrom<String> for KeyPin {
    type Error = String;
    fn try_from(value: String) -> Result<Self, Self::Error> {
        let wrong = || format!("{value:?} is no key pin: write sha256: and 64 hexadecimal digits");
        let digits = value.strip_prefix("sha256:").and_then(text::octets);
        digits.map(Self).ok_or_else(wrong)
    }
}
