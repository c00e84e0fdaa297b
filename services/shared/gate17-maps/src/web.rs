//! A map from a web server: HTTPS, and nothing that it leads to.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use gate17_proto::map::MAX_LENGTH;
use http::{
    Request, StatusCode, Uri,
    header::{ETAG, HOST, IF_NONE_MATCH, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{Maps, due};

/// For one server to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server had.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fetched {
    /// What we have.
    Same,
    /// The envelope, and the tag by which the server knows it.
    New(Vec<u8>, Option<String>),
}

/// Web servers that have the map; what they say is verified like any other.
#[derive(Clone, Debug, Default)]
pub struct Web {
    urls: Vec<String>,
    authorities: Option<PathBuf>,
    /// By URL: what it calls the map that is held.
    tags: HashMap<String, String>,
}

impl Web {
    /// `urls`: `https://…`, asked in their order; `authorities`: whom the servers' certificates are to be of, the system's
    /// where there is none.
    pub fn new(urls: Vec<String>, authorities: Option<PathBuf>) -> Self {
        Self {
            urls,
            authorities,
            tags: HashMap::new(),
        }
    }

    /// Whether there is nobody to ask.
    pub fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// Whether any of them had a map that holds, the one of before or another: the first that has ends it.
    pub async fn ask(&mut self, maps: &Maps) -> bool {
        for url in &self.urls {
            let fetched = fetch(url, self.tags.get(url), self.authorities.as_deref());
            let fetched = match timeout(PATIENCE, fetched).await {
                Ok(fetched) => fetched.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("no answer in {} s", PATIENCE.as_secs())),
            };
            let taken = fetched.and_then(|fetched| match fetched {
                Fetched::Same => Ok(None),
                Fetched::New(envelope, tag) => {
                    let offered = maps.offer(&envelope, url).map_err(|refused| refused.to_string());
                    offered.map(|()| Some(tag))
                }
            });
            maps.report(url, taken.as_ref().err().cloned());
            match taken {
                Ok(None) => return true,
                Ok(Some(tag)) => {
                    match tag {
                        Some(tag) => self.tags.insert(url.clone(), tag),
                        None => self.tags.remove(url),
                    };
                    return true;
                }
                Err(_) => {}
            }
        }
        false
    }

    /// Asks for ever, before the map is over.
    pub async fn follow(mut self, maps: Maps) {
        let (mut fetched, mut failures) = (false, 0);
        while !self.is_empty() {
            let latest = maps.latest();
            let pause = due::next(
                latest.as_deref(),
                fetched,
                failures,
                Timestamp::now(),
                rand::random(),
            );
            tokio::time::sleep(pause).await;
            // without keys to believe, nothing that comes could be verified
            if maps.is_set_up() {
                failures = if self.ask(&maps).await { 0 } else { failures + 1 };
                fetched = true;
            }
        }
    }
}

/// Host, port and what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    authority: String,
    path: String,
}

/// Asks once; `known`: what the server called the map that is held.
///
/// # Errors
/// Where no map comes.
async fn fetch(url: &str, known: Option<&String>, authorities: Option<&Path>) -> anyhow::Result<Fetched> {
    let place = place(url)?;
    let name = ServerName::try_from(place.host.clone()).context("the host's name")?;
    let stream = TcpStream::connect((place.host.as_str(), place.port))
        .await
        .context("connect")?;
    let stream = TlsConnector::from(tls(authorities)?)
        .connect(name, stream)
        .await
        .context("TLS")?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .uri(&place.path)
        .header(HOST, &place.authority)
        .header(USER_AGENT, "portmaster");
    if let Some(tag) = known {
        request = request.header(IF_NONE_MATCH, tag);
    }
    let answer = send
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await
        .context("ask");
    let fetched = read(answer?).await;
    driver.abort();
    fetched
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> anyhow::Result<Fetched> {
    match answer.status() {
        StatusCode::NOT_MODIFIED => return Ok(Fetched::Same),
        StatusCode::OK => {}
        status if status.is_redirection() => {
            bail!("the server answered {status}: name in `map_url` what it leads to")
        }
        status => bail!("the server answered {status}"),
    }
    let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let tag = tag.map(str::to_owned);
    let body = Limited::new(answer.into_body(), MAX_LENGTH).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
    Ok(Fetched::New(body.to_bytes().into(), tag))
}

/// Of an URL: `https` alone, since a map may have a secret in it.
fn place(url: &str) -> anyhow::Result<Place> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?}"))?;
    ensure!(
        uri.scheme_str() == Some("https"),
        "{url:?} is no https URL: a map may have a secret in it"
    );
    let authority = uri
        .authority()
        .filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.with_context(|| format!("{url:?} names no host, or a user"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok(Place {
        host: host.to_owned(),
        port: authority.port_u16().unwrap_or(443),
        authority: authority.to_string(),
        path: uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

/// Whether an URL can be asked.
///
/// # Errors
/// Why it cannot.
pub fn check(url: &str) -> Result<(), String> {
    place(url).map(drop).map_err(|error| error.to_string())
}

fn tls(authorities: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(file) => {
            let what = || format!("read certificate authorities from {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(what)? {
                roots.add(certificate.with_context(what)?).with_context(what)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    ensure!(
        !roots.is_empty(),
        "there are no certificate authorities to believe; install the package ca-certificates, or name a file in `map_authorities`"
    );
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_is_taken_apart_and_only_https_is_one() {
        let of = |url| place(url).unwrap();
        assert_eq!(
            of("https://example.org/maps/mine?x"),
            Place {
                host: "example.org".into(),
                port: 443,
                authority: "example.org".into(),
                path: "/maps/mine?x".into()
            }
        );
        let v6 = of("https://[2001:db8::1]:8443");
        assert_eq!(
            (v6.host.as_str(), v6.port, v6.path.as_str()),
            ("2001:db8::1", 8443, "/")
        );
        for bad in [
            "http://example.org/",
            "example.org",
            "/map",
            "https://me@example.org/",
            "ftp://x/",
        ] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
