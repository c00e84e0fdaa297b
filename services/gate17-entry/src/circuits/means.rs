//! What this host shows to nodes of a map.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use aws_lc_rs::signature::Ed25519KeyPair;
use gate17_proto::{
    access::map_token,
    map::{Access, Map},
};
use proto::gate17::v1::Cause;

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
            let key = Ed25519KeyPair::from_pkcs8(&octets);
            key.map(Arc::new)
                .map_err(|_| anyhow::anyhow!("{} is no Ed25519 key (PKCS #8, DER)", file.display()))
        });
        Ok(Self {
            token: token.transpose()?,
            key: key.transpose()?,
        })
    }
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
        })
    }
}
