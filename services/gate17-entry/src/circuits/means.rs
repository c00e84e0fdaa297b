//! What this host shows to nodes of a map.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::{
    access::map_token,
    map::{Access, Map},
};
use proto::gate17::v1::Cause;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};

use super::Circuits;
use crate::{
    circuit::{Means, Shown},
    refusal::Refusal,
};

/// For networks that admit not everybody who has their map.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A token.
    pub token: Option<String>,
    /// A key.
    pub key: Option<Arc<Ed25519KeyPair>>,
}

impl Credentials {
    /// Of files, where they are given.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub fn read(token: Option<&Path>, key: Option<&Path>) -> anyhow::Result<Self> {
        let token = token.map(|file| {
            let text = std::fs::read_to_string(file);
            text.map(|text| text.trim().to_owned())
                .with_context(|| format!("read the access token {}", file.display()))
        });
        let key = key.map(|file| {
            let octets =
                std::fs::read(file).with_context(|| format!("read the client key {}", file.display()))?;
            key_of(&octets).with_context(|| {
                let file = file.display();
                format!("use {file}; give an Ed25519 key, as of `openssl genpkey -algorithm ed25519`")
            })
        });
        Ok(Self {
            token: token.transpose()?,
            key: key.transpose()?.map(Arc::new),
        })
    }
}

/// PKCS #8, in PEM or not.
fn key_of(octets: &[u8]) -> anyhow::Result<Ed25519KeyPair> {
    let pem = PrivatePkcs8KeyDer::from_pem_slice(octets).ok();
    let der = pem.as_ref().map_or(octets, PrivatePkcs8KeyDer::secret_pkcs8_der);
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|rejected| anyhow::anyhow!("{rejected}"))
}

impl Circuits {
    pub(super) fn means(&self, map: &Map) -> Result<Means, Refusal> {
        let refused = |text: &str| Refusal::new(Cause::NoPath, text);
        let Credentials { token, key } = &self.0.credentials;
        let shown = match map.access {
            Access::None => Ok(Shown::Nothing),
            Access::Map => Shown::token(&map_token(&map.knock)),
            Access::Token => Shown::token(token.as_deref().ok_or_else(|| {
                refused("the network wants a token, and gate17-entry.toml names no file with one")
            })?),
            Access::Key => Shown::key(Arc::clone(key.as_ref().ok_or_else(|| {
                refused("the network wants a key, and gate17-entry.toml names no file with one")
            })?)),
        };
        Ok(Means {
            shown: shown.map_err(|text| refused(&text))?,
            nodes: self.0.nodes.clone(),
            reached: self.0.reached.clone(),
            padding: self.0.padding,
        })
    }
}

#[cfg(test)]
mod tests {
    use gate17_proto::map::public;

    use super::*;

    /// Of RFC 8410, section 10.3, which has its public half beside it.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
    const PUBLIC: &str = "ed25519:19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    #[test]
    fn a_key_is_read_as_openssl_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, PEM).unwrap();
        let key = Credentials::read(None, Some(&file)).unwrap().key.unwrap();
        assert_eq!(String::from(public(&key).unwrap()), PUBLIC);
        std::fs::write(&file, Ed25519KeyPair::generate().unwrap().to_pkcs8().unwrap()).unwrap();
        assert!(Credentials::read(None, Some(&file)).is_ok());
        std::fs::write(&file, "no key").unwrap();
        let said = format!("{:#}", Credentials::read(None, Some(&file)).unwrap_err());
        assert!(said.contains("openssl genpkey"), "{said}");
    }
}
