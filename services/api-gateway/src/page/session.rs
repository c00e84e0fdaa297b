//! How a browser keeps a token: it is pasted once, and becomes a cookie that scripts cannot read and other sites cannot use.
//!
//! Browsers send a host's cookies to all of its ports, also to a server that another user of this host runs. So the cookie is not
//! the token: it is the token sealed for the user who logged in, and nothing in anybody else's hand.

use std::{fs, io, path::Path, sync::Arc};

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut as _, KeyInit as _},
};
use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use tonic::{Status, body::Body};

use crate::{
    caller::Peer,
    gate::{COOKIE, Gate},
    json,
};

/// Where it is asked for: POST logs in, DELETE logs out.
pub const PATH: &str = "/session";
/// Tokens begin otherwise.
const PREFIX: &str = "pms_";
const KEY_FILE: &str = "session.key";
const NONCE: usize = 12;
const TAG: usize = 16;
/// Octets: more than any token has.
const LONGEST: usize = 1024;
/// Seconds that a browser keeps it; the token itself may end before.
const KEPT: u32 = 30 * 24 * 3600;

/// Seals tokens for users.
pub struct Sessions(Aes256Gcm);

impl Sessions {
    /// With the key of the last run, or a new one.
    ///
    /// # Errors
    /// Where it can be neither read nor written.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(KEY_FILE);
        let key: [u8; 32] = match fs::read(&path) {
            Ok(octets) => octets.as_slice().try_into().with_context(|| {
                format!(
                    "{} is not 32 octets long: remove it, and log in anew",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 32] = rand::random();
                daemon::files::replace(&path, &key).with_context(|| format!("write {}", path.display()))?;
                key
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        Ok(Self(Aes256Gcm::new(&key.into())))
    }

    /// A cookie's value: `secret`, for this user alone. None where it cannot be sealed.
    pub fn seal(&self, secret: &str, uid: u32) -> Option<String> {
        let nonce: [u8; NONCE] = rand::random();
        let mut octets = secret.as_bytes().to_vec();
        let uid = uid.to_be_bytes();
        let tag = self
            .0
            .encrypt_inout_detached(&nonce.into(), &uid, octets.as_mut_slice().into());
        let sealed = [&nonce[..], &octets, &tag.ok()?].concat();
        Some(format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// The token in a cookie's value; none where it was sealed for somebody else, or by another gateway. A token itself is one too.
    pub fn open(&self, value: &str, uid: Option<u32>) -> Option<String> {
        let Some(sealed) = value.strip_prefix(PREFIX) else {
            return Some(value.to_owned());
        };
        let octets = BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = octets.split_first_chunk::<NONCE>()?;
        let (secret, tag) = rest.split_last_chunk::<TAG>()?;
        let mut secret = secret.to_vec();
        let (uid, buffer) = (uid?.to_be_bytes(), secret.as_mut_slice().into());
        self.0
            .decrypt_inout_detached(&(*nonce).into(), &uid, buffer, &(*tag).into())
            .ok()?;
        String::from_utf8(secret).ok()
    }
}

/// Logs in, or out.
pub async fn answer(gate: &Gate, request: Request<Body>) -> Response<Body> {
    let said = match *request.method() {
        Method::POST => log_in(gate, request).await,
        Method::DELETE => cookie("", 0),
        _ => Err(Status::invalid_argument(
            "give POST with {\"token\": \"pm_…\"}, or DELETE",
        )),
    };
    said.unwrap_or_else(|status| json::error(&status))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    token: String,
}

async fn log_in(gate: &Gate, request: Request<Body>) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    // a page of somebody else's could send anything else without asking
    if parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) != Some(b"application/json") {
        return Err(Status::invalid_argument(
            "the content-type must be application/json",
        ));
    }
    let peer = parts.extensions.get::<Arc<Peer>>();
    let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
    let body = Limited::new(body, LONGEST).collect().await;
    let body =
        body.map_err(|_| Status::invalid_argument("the request is too long, or did not come whole"))?;
    let login: Login = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| Status::invalid_argument("give {\"token\": \"pm_…\"}"))?;
    let secret = login.token.trim();
    let mut shown = HeaderMap::new();
    let bearer = HeaderValue::try_from(format!("Bearer {secret}"))
        .map_err(|_| Status::unauthenticated("this is no token: `portmaster token create` makes one"))?;
    shown.insert(header::AUTHORIZATION, bearer);
    gate.caller(&shown, peer)?;
    let uid = peer
        .uid
        .ok_or_else(|| Status::unauthenticated("your socket's owner is not known (it is closed already)"))?;
    let value = gate.sessions().seal(secret, uid);
    cookie(
        &value.ok_or_else(|| Status::internal("the token cannot be sealed"))?,
        KEPT,
    )
}

fn cookie(value: &str, kept: u32) -> Result<Response<Body>, Status> {
    let text = format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={kept}");
    let text = HeaderValue::try_from(text).map_err(|error| Status::internal(error.to_string()))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::SET_COOKIE, text);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_session_is_its_users_alone_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::load(folder.path()).unwrap();
        let value = sessions.seal("pm_secret", 1000).unwrap();
        assert!(!value.contains("secret") && value != sessions.seal("pm_secret", 1000).unwrap());
        let sessions = Sessions::load(folder.path()).unwrap();
        assert_eq!(sessions.open(&value, Some(1000)).as_deref(), Some("pm_secret"));
        for (value, uid) in [
            (&value, Some(1001)),
            (&value, None),
            (&format!("{value}A"), Some(1000)),
        ] {
            assert_eq!(sessions.open(value, uid), None);
        }
        assert_eq!(sessions.open("pm_plain", None).as_deref(), Some("pm_plain"));
        let other = tempfile::tempdir().unwrap();
        assert_eq!(
            Sessions::load(other.path()).unwrap().open(&value, Some(1000)),
            None
        );
        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let said = Sessions::load(folder.path()).err().unwrap().to_string();
        assert!(said.contains("session.key") && said.contains("remove"), "{said}");
    }

    proptest! {
        #[test]
        fn opening_is_total(text in "[ -~]{0,80}", uid in any::<u32>()) {
            let folder = tempfile::tempdir().unwrap();
            let sessions = Sessions::load(folder.path()).unwrap();
            prop_assert_eq!(sessions.open(&format!("{PREFIX}{text}"), Some(uid)), None);
        }
    }
}
