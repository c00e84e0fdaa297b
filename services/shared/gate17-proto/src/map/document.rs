//! The document that is signed.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Envelope, Node, text};

/// What a network says of itself. Unknown fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// 1.
    pub format: u32,
    /// The network's name; a map of another network is refused.
    pub network: String,
    /// Never goes back.
    pub serial: u64,
    /// When it was made.
    pub issued: Timestamp,
    /// Unusable from then on.
    pub expires: Timestamp,
    /// The keys that sign this map.
    pub root: Root,
    /// How the root became this one, oldest first: for holders that know an older one.
    #[serde(default)]
    pub rotations: Vec<Envelope>,
    /// Who may use the nodes.
    pub access: Access,
    /// What `access: map` derives its token from.
    pub knock: Secret,
    /// SHA-256 of the tokens of `access: token`.
    #[serde(default)]
    pub tokens: Vec<Digest>,
    /// Ed25519 keys of `access: key`.
    #[serde(default)]
    pub client_keys: Vec<PublicKey>,
    /// In no order that means anything.
    pub nodes: Vec<Node>,
}

/// Keys of which `threshold` sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// One more with each rotation.
    pub version: u64,
    /// 1 to the number of keys.
    pub threshold: usize,
    /// At most [`super::MAX_ROOT_KEYS`], each once.
    pub keys: Vec<PublicKey>,
}

/// What a rotation's envelope holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Of this network only.
    pub network: String,
    /// The root from now on.
    pub root: Root,
}

/// Who may use the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everybody.
    None,
    /// Everybody who has the map.
    Map,
    /// Who has one of `tokens`.
    Token,
    /// Who has one of `client_keys`.
    Key,
}

/// 32 octets, written as `PREFIX` and 64 hexadecimal digits.
macro_rules! octets {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $secret:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                if $secret {
                    return formatter.write_str("(secret)");
                }
                formatter.write_str(&String::from(*self))
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                format!("{}{}", $prefix, text::hex(&value.0))
            }
        }
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                let digits = text.strip_prefix($prefix).and_then(text::octets);
                digits.map(Self).ok_or_else(|| {
                    concat!("not ", stringify!($name), ": write ", $prefix, " and 64 hexadecimal digits").to_owned()
                })
            }
        }
    };
}

octets!(
    /// An Ed25519 public key.
    PublicKey,
    "ed25519:",
    false
);
octets!(
    /// SHA-256 of a token.
    Digest,
    "sha256:",
    false
);
octets!(
    /// Known to who has the map.
    Secret,
    "",
    true
);

impl PublicKey {
    /// How envelopes name it: SHA-256 of the key, hexadecimal.
    pub fn id(&self) -> String {
        use sha2::{Digest as _, Sha256};
        text::hex(&Sha256::digest(self.0))
    }
}
