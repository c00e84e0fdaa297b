//! DSSE v1: octets, and signatures over exactly these octets.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{PublicKey, Root};

/// `payloadType` of a map.
pub const MAP_TYPE: &str = "application/vnd.gate17.map+json";
/// `payloadType` of a rotation.
pub const ROOT_TYPE: &str = "application/vnd.gate17.root+json";
const MAX_SIGNATURES: usize = 64;

/// Signed octets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Base64.
    pub payload: String,
    /// What it is.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// In any order.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// [`PublicKey::id`].
    #[serde(default)]
    pub keyid: String,
    /// Base64 of 64 octets.
    pub sig: String,
}

impl Envelope {
    /// Without signatures.
    pub fn new(payload_type: &str, payload: &[u8]) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: Vec::new(),
        }
    }

    /// What is signed; None where the payload is no base64.
    pub fn octets(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.payload).ok()
    }

    /// Adds `key`'s signature, in place of one that it made before. False where the payload is no base64.
    pub fn sign(&mut self, key: &Ed25519KeyPair) -> bool {
        let Some(payload) = self.octets() else {
            return false;
        };
        let Some(public) = public(key) else { return false };
        let sig = STANDARD.encode(key.sign(&pae(&self.payload_type, &payload)));
        let keyid = public.id();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(Signature { keyid, sig });
        true
    }

    /// How many different keys of `root` signed it.
    pub fn signers(&self, root: &Root) -> usize {
        let Some(payload) = self.octets() else { return 0 };
        if self.signatures.len() > MAX_SIGNATURES {
            return 0;
        }
        let message = pae(&self.payload_type, &payload);
        let signed = |key: &&PublicKey| {
            let id = key.id();
            self.signatures.iter().any(|signature| {
                signature.keyid == id
                    && STANDARD.decode(&signature.sig).is_ok_and(|octets| {
                        UnparsedPublicKey::new(&ED25519, &key.0)
                            .verify(&message, &octets)
                            .is_ok()
                    })
            })
        };
        let mut keys = root.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        keys.iter().filter(signed).count()
    }
}

/// A key pair's public half.
pub fn public(key: &Ed25519KeyPair) -> Option<PublicKey> {
    key.public_key().as_ref().try_into().ok().map(PublicKey)
}

/// Pre-authentication encoding of DSSE v1.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the DSSE specification (protocol.md).
    #[test]
    fn pae_is_that_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
