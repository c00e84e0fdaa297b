//! A map from a web server: HTTPS, and nothing that it leads to.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use gate17_proto::map::MAX_LENGTH;
use http::{
    Request, StatusCode, Uri,
    header::{ETAG, HOST, IF_NONE_MATCH, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::circuit::Fetched;

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
pub(super) async fn fetch(
    url: &str,
    known: Option<&String>,
    authorities: Option<&Path>,
) -> anyhow::Result<Fetched> {
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
pub(crate) fn check(url: &str) -> Result<(), String> {
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
