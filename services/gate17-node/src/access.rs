//! Who may have anything carried. Everybody else sees a web server.

use base64::Engine as _;
use gate17_proto::map::Digest;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};

use crate::config;

/// As configured, ready to be asked.
#[derive(Clone, Debug)]
pub enum Access {
    /// Nobody.
    Nobody,
    /// Everybody.
    Everybody,
    /// Who shows a token of which the digest is here.
    Tokens(Vec<Digest>),
}

impl Access {
    /// Of the configuration; digests that are none admit nobody.
    pub fn new(config: &config::Access) -> Self {
        match config {
            config::Access::Nobody => Self::Nobody,
            config::Access::None => Self::Everybody,
            config::Access::Token(tokens) => {
                Self::Tokens(tokens.iter().filter_map(|token| digest(token)).collect())
            }
        }
    }

    /// Whether a request may go further: `Proxy-Authorization` or `Authorization`, `Bearer`; or `Basic` with the token
    /// as the password, which is what every client of a proxy can send.
    pub fn admits(&self, headers: &HeaderMap) -> bool {
        let known = match self {
            Self::Nobody => return false,
            Self::Everybody => return true,
            Self::Tokens(known) => known,
        };
        let shown = [header::PROXY_AUTHORIZATION, header::AUTHORIZATION]
            .iter()
            .find_map(|name| headers.get(name))
            .and_then(|value| value.to_str().ok());
        let Some(token) = shown.and_then(token_of) else {
            return false;
        };
        // digests are compared: how long it takes says nothing of the token
        known.contains(&Digest(Sha256::digest(&token).into()))
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
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_digest_however_it_is_shown() {
        let hex: String = Sha256::digest(b"open sesame")
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect();
        let access = Access::new(&config::Access::Token(vec![hex]));
        let basic = base64::engine::general_purpose::STANDARD.encode("me:open sesame");
        for (value, admitted) in [
            ("Bearer open sesame".to_owned(), true),
            ("bearer open sesame".to_owned(), true),
            (format!("Basic {basic}"), true),
            ("Bearer open sesam".to_owned(), false),
            ("Bearer".to_owned(), false),
            ("Digest open sesame".to_owned(), false),
        ] {
            for name in [header::PROXY_AUTHORIZATION, header::AUTHORIZATION] {
                let mut headers = HeaderMap::new();
                headers.insert(name, value.parse().unwrap());
                assert_eq!(access.admits(&headers), admitted, "{value}");
            }
        }
        assert!(!access.admits(&HeaderMap::new()));
        assert!(Access::Everybody.admits(&HeaderMap::new()));
        assert!(!Access::Nobody.admits(&HeaderMap::new()));
    }
}
