//! Who may use a node: bearer tokens (RFC 6750), and client keys (RFC 9729, Concealed).

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    hmac,
    signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::BytesMut;
use sha2::{Digest as _, Sha256};

use crate::{
    capsule::put_integer,
    map::{Access, Digest, Map, PublicKey, Secret, public},
};

/// Label of the TLS exporter (RFC 9729 §3.1).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-HTTP-Concealed-Authentication";
/// Octets of its output: 32 to be signed, 16 to be shown.
pub const EXPORTED: usize = 48;
/// SignatureScheme of Ed25519 (RFC 8446 §4.2.3).
const SCHEME: u16 = 0x0807;

/// The token of `access: map`: who has the map can make it.
pub fn map_token(knock: &Secret) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &knock.0);
    URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"gate17 map access v1"))
}

/// What a map keeps of a token.
pub fn token_digest(token: &str) -> Digest {
    Digest(Sha256::digest(token).into())
}

/// Whether a bearer token, as it came, is one by `map`. Access `key` admits none, and `none` needs none.
pub fn admits_token(map: &Map, token: &str) -> bool {
    let shown = token_digest(token);
    let is = |known: &Digest| verify_slices_are_equal(&known.0, &shown.0).is_ok();
    match map.access {
        Access::None => true,
        Access::Map => is(&token_digest(&map_token(&map.knock))),
        // all are compared: the time says not which
        Access::Token => map.tokens.iter().filter(|known| is(known)).count() > 0,
        Access::Key => false,
    }
}

/// The token in a field's value, `Bearer TOKEN`.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// For which origin a client proves its key (RFC 9729 §3.1).
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// `https`.
    pub scheme: &'a str,
    /// Without its port.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Empty: none was asked for.
    pub realm: &'a str,
}

/// Context of the exporter: what its output is bound to.
pub fn exporter_context(key: &PublicKey, origin: Origin<'_>) -> Vec<u8> {
    let mut context = BytesMut::new();
    context.extend_from_slice(&SCHEME.to_be_bytes());
    let mut text = |octets: &[u8]| {
        put_integer(octets.len() as u64, &mut context);
        context.extend_from_slice(octets);
    };
    text(key.id().as_bytes());
    text(&key.0);
    text(origin.scheme.as_bytes());
    text(origin.host.as_bytes());
    context.extend_from_slice(&origin.port.to_be_bytes());
    put_integer(origin.realm.len() as u64, &mut context);
    context.extend_from_slice(origin.realm.as_bytes());
    context.to_vec()
}

/// What is signed (RFC 9729 §3.3).
fn signed(input: &[u8]) -> Vec<u8> {
    let mut text = vec![0x20; 64];
    text.extend_from_slice(b"HTTP Concealed Authentication\0");
    text.extend_from_slice(input);
    text
}

/// The field's value by which a client shows that it has `key`. None only where the key is broken.
pub fn concealed(key: &Ed25519KeyPair, exported: &[u8; EXPORTED]) -> Option<String> {
    let (input, shown) = exported.split_at_checked(32)?;
    let public = public(key)?;
    let base64 = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    Some(format!(
        "Concealed k={}, a={}, s={SCHEME}, v={}, p={}",
        base64(public.id().as_bytes()),
        base64(&public.0),
        base64(shown),
        base64(key.sign(&signed(input)).as_ref()),
    ))
}

/// Which key a field's value claims, if it is one of `known`; then [`proves`] judges it.
pub fn claimed(value: &str, known: &[PublicKey]) -> Option<PublicKey> {
    let fields = Fields::read(value)?;
    let key = PublicKey(fields.key.as_slice().try_into().ok()?);
    (fields.id == key.id().as_bytes() && known.contains(&key)).then_some(key)
}

/// Whether a field's value proves `key` on the connection that exported this.
pub fn proves(value: &str, key: &PublicKey, exported: &[u8; EXPORTED]) -> bool {
    let (Some(fields), Some((input, shown))) = (Fields::read(value), exported.split_at_checked(32)) else {
        return false;
    };
    verify_slices_are_equal(&fields.shown, shown).is_ok()
        && UnparsedPublicKey::new(&ED25519, &key.0)
            .verify(&signed(input), &fields.proof)
            .is_ok()
}

#[derive(Default)]
struct Fields {
    id: Vec<u8>,
    key: Vec<u8>,
    shown: Vec<u8>,
    proof: Vec<u8>,
}

impl Fields {
    fn read(value: &str) -> Option<Self> {
        let (scheme, rest) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("concealed") || value.len() > 1024 {
            return None;
        }
        let (mut fields, mut known) = (Self::default(), 0_u8);
        for pair in rest.split(',') {
            let (name, text) = pair.trim().split_once('=')?;
            // RFC 9729, section 4: neither quotes nor padding
            let octets = || URL_SAFE_NO_PAD.decode(text);
            let bit = match name {
                "k" => {
                    fields.id = octets().ok()?;
                    1
                }
                "a" => {
                    fields.key = octets().ok()?;
                    2
                }
                "v" => {
                    fields.shown = octets().ok()?;
                    4
                }
                "p" => {
                    fields.proof = octets().ok()?;
                    8
                }
                "s" if text == SCHEME.to_string() => 16,
                "s" => return None,
                _ => continue,
            };
            if known & bit != 0 {
                return None;
            }
            known |= bit;
        }
        (known == 31).then_some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_proved_on_its_connection_only() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let public = public(&key).unwrap();
        let value = concealed(&key, &[7; EXPORTED]).unwrap();
        assert_eq!(claimed(&value, &[public]), Some(public));
        assert_eq!(claimed(&value, &[]), None);
        assert!(proves(&value, &public, &[7; EXPORTED]));
        assert!(!proves(&value, &public, &[8; EXPORTED]));
        let mut half = [7; EXPORTED];
        half[0] = 8;
        assert!(!proves(&value, &public, &half));
        assert!(!proves(
            &value.replace("s=2055", "s=2056"),
            &public,
            &[7; EXPORTED]
        ));
        for not_as_written in [
            value.replace("s=2055", "s=02055"),
            value.replace("s=2055", "s=+2055"),
            value.replace("s=2055", "s=\"2055\""),
            format!("{value}="),
        ] {
            assert_eq!(claimed(&not_as_written, &[public]), None, "{not_as_written}");
        }
        assert!(!proves("Concealed k=a", &public, &[7; EXPORTED]));
    }

    #[test]
    fn the_context_has_the_fields_of_the_rfc_in_order() {
        let origin = Origin {
            scheme: "https",
            host: "a",
            port: 443,
            realm: "",
        };
        let context = exporter_context(&PublicKey([9; 32]), origin);
        let id = PublicKey([9; 32]).id();
        let wanted = [
            &[8, 7, 0x40, 64][..],
            id.as_bytes(),
            &[32],
            &[9; 32],
            b"\x05https\x01a\x01\xbb\0",
        ]
        .concat();
        assert_eq!(context, wanted);
    }

    #[test]
    fn tokens_are_read_and_derived() {
        assert_eq!(bearer("bearer abc"), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("Bearer "), None);
        assert_ne!(map_token(&Secret([1; 32])), map_token(&Secret([2; 32])));
        assert_eq!(map_token(&Secret([1; 32])).len(), 43);
    }
}
