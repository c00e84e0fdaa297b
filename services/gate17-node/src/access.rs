//! Who may have anything carried. Everybody else sees a web server.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use gate17_maps::Maps;
use gate17_proto::{
    access::{Origin, admits_token, claimed, exporter_context, proves},
    map::{self, Digest, KeyPin, Map, PublicKey},
};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use crate::{config, proof::Exporter};

/// As configured, ready to be asked.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nobody.
    Nobody,
    /// Everybody.
    Everybody,
    /// Who shows a token of which the digest is here.
    Tokens(Vec<Digest>),
    /// Whom the map admits, while it holds. The pin is this node's: by it the map knows its name.
    Map(Maps, KeyPin),
}

/// A connection, as far as it tells who speaks on it.
#[derive(Debug, Default)]
pub struct Caller {
    exporter: Option<Exporter>,
    /// The key that was proved last, and by what: a proof is the same for all requests of a connection (RFC 9729, section 7).
    proved: Mutex<Option<(PublicKey, HeaderValue)>>,
}

impl Caller {
    /// On a connection that exports this.
    pub fn new(exporter: Exporter) -> Self {
        Self {
            exporter: Some(exporter),
            proved: Mutex::default(),
        }
    }

    /// RFC 9729, section 6.3.
    fn proves(&self, shown: &HeaderValue, map: &Map, own: KeyPin) -> bool {
        let (Some(exporter), Ok(text)) = (&self.exporter, shown.to_str()) else {
            return false;
        };
        let Some(key) = claimed(text, &map.client_keys) else {
            return false;
        };
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved
            .as_ref()
            .is_some_and(|before| before.0 == key && before.1 == shown)
        {
            return true;
        }
        let name = map.nodes.iter().find(|node| node.keys.contains(&own));
        let origin = Origin {
            scheme: "https",
            host: name
                .map(|node| node.name.as_str())
                .filter(|name| !name.is_empty())
                .unwrap_or("localhost"),
            port: 443,
            realm: "",
        };
        let is = exporter
            .export(&exporter_context(&key, origin))
            .is_some_and(|exported| proves(text, &key, &exported));
        if is {
            *proved = Some((key, shown.clone()));
        }
        is
    }
}

impl Access {
    /// Of the configuration; digests that are none admit nobody.
    pub fn new(config: &config::Access, maps: &Maps, own: KeyPin) -> Self {
        match config {
            config::Access::Nobody => Self::Nobody,
            config::Access::None => Self::Everybody,
            config::Access::Token(tokens) => {
                Self::Tokens(tokens.iter().filter_map(|token| digest(token)).collect())
            }
            config::Access::Map => Self::Map(maps.clone(), own),
        }
    }

    /// Whether this node tells everybody what it is.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Everybody => true,
            Self::Nobody | Self::Tokens(_) => false,
            Self::Map(maps, _) => maps.map().is_ok_and(|map| map.access == map::Access::None),
        }
    }

    /// Whether a request may go further: `Proxy-Authorization` or `Authorization`, `Bearer`; or `Basic` with the token
    /// as the password, which is what every client of a proxy can send; or `Concealed`.
    pub fn admits(&self, headers: &HeaderMap, caller: &Caller) -> bool {
        let shown = [header::PROXY_AUTHORIZATION, header::AUTHORIZATION]
            .iter()
            .find_map(|name| headers.get(name));
        let token = || token_of(shown?.to_str().ok()?);
        match self {
            Self::Nobody => false,
            Self::Everybody => true,
            // digests are compared: how long it takes says nothing of the token
            Self::Tokens(known) => {
                token().is_some_and(|token| known.contains(&Digest(Sha256::digest(&token).into())))
            }
            Self::Map(maps, own) => match maps.map() {
                Err(_) => false,
                Ok(map) => match map.access {
                    map::Access::None => true,
                    map::Access::Map | map::Access::Token => token()
                        .and_then(|token| String::from_utf8(token).ok())
                        .is_some_and(|token| admits_token(&map, &token)),
                    map::Access::Key => shown.is_some_and(|shown| caller.proves(shown, &map, *own)),
                },
            },
        }
    }
}

fn token_of(value: &str) -> Option<Vec<u8>> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.as_bytes().to_vec());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::engine::general_purpose::STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|octet| *octet == b':')?;
    pair.get(colon + 1..).map(<[u8]>::to_vec)
}

/// 64 hexadecimal digits, as maps have them behind `sha256:`.
pub fn digest(text: &str) -> Option<Digest> {
    Digest::try_from(format!("sha256:{text}")).ok()
}

#[cfg(test)]
mod tests;
