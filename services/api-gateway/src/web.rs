//! What stands before every request from a browser: `Host` and `Origin`, and what goes with every answer.
//!
//! A page of somebody else's may make a browser call us, with that user's socket and cookies. It cannot choose these headers:
//! `Host` betrays a name that was pointed at this host (DNS rebinding), `Origin` and `Sec-Fetch-Site` another page.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tonic::{Status, body::Body};

/// Who may stand in these headers.
#[derive(Clone, Debug, Default)]
pub struct Doorkeeper {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Doorkeeper {
    /// Our own hosts, and origins of others that the owner admits.
    pub fn new(hosts: Vec<String>, origins: Vec<String>) -> Self {
        Self { hosts, origins }
    }

    /// Whether a request may come in.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Status> {
        let headers = request.headers();
        let named =
            text(headers, &header::HOST).or_else(|| request.uri().authority().map(|host| host.as_str()));
        let host = named.ok_or_else(|| Status::permission_denied("the request names no host"))?;
        if !self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) {
            return Err(Status::permission_denied(format!(
                "{host:?} is no name of this gateway; call {}",
                self.hosts.join(" or ")
            )));
        }
        match text(headers, &header::ORIGIN) {
            Some(origin) if !self.is_ours(origin) && !self.is_admitted(origin) => {
                Err(Status::permission_denied(format!(
                    "pages of {origin} may not call; `origins` in api-gateway.toml admits them"
                )))
            }
            Some(_) => Ok(()),
            None => same_site(headers),
        }
    }

    fn is_ours(&self, origin: &str) -> bool {
        let host = origin.strip_prefix("http://");
        host.is_some_and(|host| self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host)))
    }

    fn is_admitted(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
    }

    /// The answer to what a browser asks before it lets an admitted page call.
    pub fn preflight(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, content-type, last-event-id, x-grpc-web, x-user-agent, grpc-timeout",
            ),
            (header::ACCESS_CONTROL_MAX_AGE, "600"),
        ];
        for (name, value) in allowed {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// What goes with every answer.
    pub fn finish(&self, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        if let Some(origin) = origin
            && origin.to_str().is_ok_and(|origin| self.is_admitted(origin))
        {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            let exposed = HeaderValue::from_static("grpc-status, grpc-message");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
    }
}

/// A browser that says nothing of an origin says by this whether another page made it call.
fn same_site(headers: &HeaderMap) -> Result<(), Status> {
    let name = header::HeaderName::from_static("sec-fetch-site");
    match text(headers, &name) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(other) => Err(Status::permission_denied(format!(
            "a page of another site ({other}) may not call; type the address, or admit it by `origins` in api-gateway.toml"
        ))),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// An answer in words.
pub fn plain(code: StatusCode, kind: &'static str, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text.into())));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)]) -> Result<(), Status> {
        let keeper = Doorkeeper::new(
            vec!["127.0.0.1:817".into(), "localhost:817".into()],
            vec!["http://localhost:5173".into()],
        );
        let mut request = Request::get("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        keeper.check(&request.body(()).unwrap())
    }

    #[test]
    fn only_our_own_names_and_pages_come_in() {
        check(&[("host", "127.0.0.1:817")]).unwrap();
        check(&[("host", "LOCALHOST:817"), ("origin", "http://localhost:817")]).unwrap();
        check(&[("host", "localhost:817"), ("origin", "http://localhost:5173")]).unwrap();
        check(&[("host", "localhost:817"), ("sec-fetch-site", "none")]).unwrap();
        for headers in [
            &[][..],
            &[("host", "rebound.example:817")],
            &[("host", "127.0.0.1")],
            &[("host", "localhost:817"), ("origin", "http://evil.example")],
            &[("host", "localhost:817"), ("origin", "null")],
            &[("host", "localhost:817"), ("origin", "https://localhost:817")],
            &[("host", "localhost:817"), ("sec-fetch-site", "cross-site")],
            &[("host", "localhost:817"), ("sec-fetch-site", "same-site")],
        ] {
            check(headers).unwrap_err();
        }
    }
}
