//! The web page at `/`: files that `build.rs` embedded, for anybody on this host. What the page shows it asks for like everybody
//! else, and gets what its user may have.
//!
//! Invariant: nothing that the page could be made to load comes from anywhere but this gateway (`POLICY`).

pub mod session;

use std::{collections::HashMap, sync::LazyLock};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use sha2::{Digest as _, Sha256};
use tonic::body::Body;

/// What a browser may do for the page. Source: Content Security Policy Level 3.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
/// What the page has no use for.
const PERMISSIONS: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()";
/// The name of such a file is made of what is in it.
const HASHED: &str = "/assets/";
const INDEX: &str = "/index.html";
const UNBUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Portmaster</title>\
    <h1>Portmaster</h1><p>This program was built without its web page. <code>make web</code> and another \
    <code>cargo build</code> put it in. <a href=\"/openapi.json\">/openapi.json</a> says what can be called.</p></html>\n";

/// A file as `build.rs` found it.
struct Asset {
    path: &'static str,
    octets: &'static [u8],
    brotli: Option<&'static [u8]>,
    gzip: Option<&'static [u8]>,
}

static EMBEDDED: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// A file as it is served.
struct File {
    kind: &'static str,
    cache: &'static str,
    /// The best first; the last is the file itself.
    forms: Vec<Form>,
}

/// One encoding of a file.
struct Form {
    encoding: Option<&'static str>,
    octets: &'static [u8],
    tag: HeaderValue,
}

static FILES: LazyLock<HashMap<&'static str, File>> = LazyLock::new(|| {
    let mut files: HashMap<_, _> = EMBEDDED
        .iter()
        .map(|asset| (asset.path, File::new(asset)))
        .collect();
    files.entry(INDEX).or_insert_with(|| {
        File::new(&Asset {
            path: INDEX,
            octets: UNBUILT.as_bytes(),
            brotli: None,
            gzip: None,
        })
    });
    files
});

impl File {
    fn new(asset: &Asset) -> Self {
        let forms = [
            (Some("br"), asset.brotli),
            (Some("gzip"), asset.gzip),
            (None, Some(asset.octets)),
        ];
        let forms = forms.into_iter().filter_map(|(encoding, octets)| {
            octets.map(|octets| Form {
                encoding,
                octets,
                tag: tag(octets),
            })
        });
        Self {
            kind: kind(asset.path),
            cache: if asset.path.starts_with(HASHED) {
                "public, max-age=31536000, immutable"
            } else {
                "no-cache"
            },
            forms: forms.collect(),
        }
    }

    /// The best that the browser reads.
    fn form(&self, headers: &HeaderMap) -> Option<&Form> {
        let reads = |encoding: &str| accepts(headers, encoding);
        self.forms.iter().find(|form| form.encoding.is_none_or(reads))
    }
}

/// Of what is sent, encoding and all: that makes it a strong one (RFC 9110, 8.8.1).
fn tag(octets: &[u8]) -> HeaderValue {
    let hash = Sha256::digest(octets);
    let digits: String = hash.iter().take(12).map(|octet| format!("{octet:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

fn kind(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// `Accept-Encoding` as RFC 9110, 12.5.3 has it; a weight of nothing is a refusal.
fn accepts(headers: &HeaderMap, encoding: &str) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut offers = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    offers.any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        parts.next() == Some(encoding)
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// A file of the page; none where there is no such file.
pub fn answer<B>(request: &Request<B>) -> Option<Response<Body>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let path = match request.uri().path() {
        "/" => INDEX,
        path => path,
    };
    let file = FILES.get(path)?;
    let form = file.form(request.headers())?;
    let is_known = is_known(request.headers(), &form.tag);
    let body = if is_known || request.method() == Method::HEAD {
        Body::empty()
    } else {
        Body::new(Full::new(bytes::Bytes::from_static(form.octets)))
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::ETAG, form.tag.clone());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.cache));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let same = HeaderValue::from_static("same-origin");
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(header::HeaderName::from_static(name), same.clone());
    }
    headers.insert(
        header::HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(PERMISSIONS),
    );
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(form.octets.len()));
    if let Some(encoding) = form.encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

/// `If-None-Match` (RFC 9110, 13.1.2) compares weakly.
fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter();
    let mut tags = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, headers: &[(&str, &str)]) -> Option<Response<Body>> {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(&request.body(()).unwrap())
    }

    #[test]
    fn the_page_is_there_with_or_without_having_been_built() {
        let page = get("/", &[]).unwrap();
        assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(page.headers()["cache-control"], "no-cache");
        assert_eq!(page.headers()["content-security-policy"], POLICY);
        assert!(get("/nothing.js", &[]).is_none());
        assert!(answer(&Request::post("/").body(()).unwrap()).is_none());
    }

    #[test]
    fn what_the_browser_has_is_not_sent_again() {
        let first = get("/", &[]).unwrap();
        let tag = first.headers()["etag"].to_str().unwrap();
        for known in [tag, "*", &format!("\"x\", W/{tag}")] {
            let again = get("/", &[("if-none-match", known)]).unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        let other = get("/", &[("if-none-match", "\"x\"")]).unwrap();
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[test]
    fn the_best_form_that_is_read_is_sent_under_a_tag_of_its_own() {
        let file = File::new(&Asset {
            path: "/assets/x.js",
            octets: b"plain",
            brotli: Some(b"b"),
            gzip: Some(b"g"),
        });
        let form = |offer: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(offer))]);
            let form = file.form(&headers).unwrap();
            (form.encoding, form.tag.clone())
        };
        assert_eq!(form("gzip, deflate, br").0, Some("br"));
        assert_eq!(form("gzip;q=0.5, br;q=0").0, Some("gzip"));
        assert_eq!(form("identity").0, None);
        assert_ne!(form("br").1, form("gzip").1);
        assert!(file.cache.contains("immutable"));
    }
}
