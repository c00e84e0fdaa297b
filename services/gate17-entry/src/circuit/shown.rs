//! What a client shows to nodes, so that they carry for it.

use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::{
    access::{EXPORTED, EXPORTER_LABEL, Origin, concealed, exporter_context},
    map::{Node, PublicKey, public},
};
use http::HeaderValue;
use rustls::ClientConnection;

/// See the module's head.
#[derive(Clone, Debug)]
pub enum Shown {
    /// Nothing: everybody is welcome.
    Nothing,
    /// The same to all of them.
    Token(HeaderValue),
    /// That we have a key (RFC 9729); another proof on each connection, worth nothing on any other.
    Key(Arc<Ed25519KeyPair>, PublicKey),
}

impl Shown {
    /// A bearer token.
    ///
    /// # Errors
    /// Where no header may have its octets.
    pub fn token(token: &str) -> Result<Self, String> {
        let value = format!("Bearer {token}").parse();
        value
            .map(Self::Token)
            .map_err(|_| "the token has octets that no header may have".to_owned())
    }

    /// A key.
    ///
    /// # Errors
    /// Where it has no public half.
    pub fn key(key: Arc<Ed25519KeyPair>) -> Result<Self, String> {
        let public = public(&key).ok_or("the key has no public half")?;
        Ok(Self::Key(key, public))
    }

    /// The header's value on this connection.
    ///
    /// # Errors
    /// Where TLS is not there yet.
    pub fn on(&self, connection: &ClientConnection, node: &Node) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::Nothing => Ok(None),
            Self::Token(value) => Ok(Some(value.clone())),
            Self::Key(key, public) => {
                let context = exporter_context(public, origin(node));
                let exported = connection
                    .export_keying_material([0; EXPORTED], EXPORTER_LABEL, Some(&context))
                    .map_err(|error| format!("prove the key: {error}"))?;
                let value = concealed(key, &exported).and_then(|value| value.parse().ok());
                value
                    .map(Some)
                    .ok_or_else(|| "the key cannot be proved".to_owned())
            }
        }
    }
}

/// That requests name: a node's name, or `localhost` where it has none; always port 443 (RFC 9110, section 4.3.1).
fn origin(node: &Node) -> Origin<'_> {
    Origin {
        scheme: "https",
        host: if node.name.is_empty() {
            "localhost"
        } else {
            &node.name
        },
        port: 443,
        realm: "",
    }
}
