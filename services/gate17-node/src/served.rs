//! The map for whoever is admitted: the envelope as it came, so that whoever gets it verifies it himself.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::{node::Node, page};

const PATH: &str = "/.well-known/gate17/map";
const KIND: &str = "application/json";

/// Whether it is asked for.
pub fn is_asked(method: &Method, path: &str) -> bool {
    method == Method::GET && path == PATH
}

/// The answer; None: there is none that holds.
pub fn answer(node: &Node, headers: &HeaderMap) -> Option<Response<Bytes>> {
    let envelope = node.maps.envelope()?;
    let digest = Sha256::digest(&envelope);
    let tag = digest
        .iter()
        .take(16)
        .fold(String::from("\""), |tag, octet| tag + &format!("{octet:02x}"))
        + "\"";
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let mut response = if is_known {
        page::respond(StatusCode::NOT_MODIFIED, KIND, Bytes::new())
    } else {
        node.status.counter("maps_served").add(1);
        page::respond(StatusCode::OK, KIND, Bytes::copy_from_slice(&envelope))
    };
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Some(response)
}
