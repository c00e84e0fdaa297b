//! One file over HTTP/1.1: conditions, redirects, bounds in size and time. It asks no resolver but the one it is given.
//!
//! Invariant: a body that is shorter than announced is an error, and so is one that is longer than permitted; what goes
//! over TLS is never led out of it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{self, HeaderName},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::source::parse_url;

const REDIRECTS: usize = 5;
/// For the connection with its handshake, per address.
const CONNECT: Duration = Duration::from_secs(10);
/// For the head of an answer, and for each piece of its body.
const SILENCE: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("portmaster/", env!("CARGO_PKG_VERSION"));

/// Finds the addresses of a host that publishes lists. Never the system's resolver: that may be this very service.
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, the best first.
    ///
    /// # Errors
    /// Says why there is none.
    fn resolve(&self, host: &str) -> impl Future<Output = anyhow::Result<Vec<IpAddr>>> + Send;
}

/// What was given with the last good download, to ask whether there is a newer one.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// What a server said.
pub(super) enum Got {
    /// What is known is the newest.
    NotModified,
    /// The body went to where the caller wanted it.
    Body(Conditions),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client<'a, R> {
    pub(super) resolver: &'a R,
    pub(super) ca_file: Option<PathBuf>,
}

/// An answer, with what drives its connection.
struct Answered {
    response: Response<Incoming>,
    driver: Driver,
}

/// Ends with its answer.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<R: Resolve> Client<'_, R> {
    /// Gives the body to `sink` piece by piece, at most `limit` octets of it.
    ///
    /// # Errors
    /// Names the step that failed. `sink` may have had a part by then.
    pub(super) async fn get(
        &self,
        url: &Uri,
        conditions: &Conditions,
        limit: u64,
        mut sink: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Got> {
        let answered = self.follow(url.clone(), conditions).await?;
        let (head, mut body) = answered.response.into_parts();
        if head.status == StatusCode::NOT_MODIFIED {
            return Ok(Got::NotModified);
        }
        ensure!(
            head.status == StatusCode::OK,
            "the server answers {}",
            head.status
        );
        let text = |name: HeaderName| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        if let Some(coding) = text(header::CONTENT_ENCODING) {
            ensure!(
                coding == "identity",
                "the server packs it as {coding}, which was not asked for"
            );
        }
        let too_large = || format!("it has more than {} MiB; `max_size` permits more", limit >> 20);
        let announced = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        ensure!(announced.is_none_or(|length| length <= limit), too_large());
        let mut got = 0_u64;
        while let Some(frame) = timeout(SILENCE, body.frame())
            .await
            .context("the server fell silent")?
        {
            let frame = frame.with_context(|| match announced {
                Some(all) => format!("it broke off after {got} of {all} octets"),
                None => format!("it broke off after {got} octets"),
            })?;
            let Ok(piece) = frame.into_data() else { continue };
            got += piece.len() as u64;
            ensure!(got <= limit, too_large());
            sink(&piece)?;
        }
        drop(answered.driver);
        Ok(Got::Body(Conditions {
            etag: text(header::ETAG),
            last_modified: text(header::LAST_MODIFIED),
        }))
    }

    async fn follow(&self, mut url: Uri, conditions: &Conditions) -> anyhow::Result<Answered> {
        for _ in 0..=REDIRECTS {
            let answered = Box::pin(self.ask(&url, conditions)).await?;
            let response = &answered.response;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(answered);
            }
            let location = response.headers().get(header::LOCATION);
            let location = location
                .and_then(|value| value.to_str().ok())
                .context("the server leads elsewhere without saying where")?;
            url = led(&url, location)?;
        }
        bail!("the server leads elsewhere more than {REDIRECTS} times");
    }

    async fn ask(&self, url: &Uri, conditions: &Conditions) -> anyhow::Result<Answered> {
        let host = url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let is_encrypted = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                (self.resolver.resolve(host).await).with_context(|| format!("find the address of {host}"))?
            }
        };
        let tls = match is_encrypted {
            true => Some(tls(self.ca_file.as_deref())?),
            false => None,
        };
        let mut failed = anyhow::anyhow!("{host} has no address");
        for address in addresses {
            let to = SocketAddr::new(address, port);
            let opened = timeout(CONNECT, Box::pin(open(to, host, tls.as_ref())));
            match opened.await.context("nothing within ten seconds").flatten() {
                Ok((sender, driver)) => return request(sender, driver, url, conditions).await,
                Err(error) => failed = error.context(format!("connect to {host} at {to}")),
            }
        }
        Err(failed)
    }
}

type Sender = http1::SendRequest<Empty<Bytes>>;

async fn open(
    to: SocketAddr,
    host: &str,
    tls: Option<&Arc<ClientConfig>>,
) -> anyhow::Result<(Sender, Driver)> {
    let stream = TcpStream::connect(to).await?;
    let Some(tls) = tls else {
        return speak(stream).await;
    };
    let name = ServerName::try_from(host.to_owned())?;
    speak(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?).await
}

async fn speak<S>(stream: S) -> anyhow::Result<(Sender, Driver)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move {
        // what goes wrong, the request or the body tells
        let _ended = connection.await;
    });
    Ok((sender, Driver(driver)))
}

async fn request(
    mut sender: Sender,
    driver: Driver,
    url: &Uri,
    conditions: &Conditions,
) -> anyhow::Result<Answered> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::get(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, AGENT)
        .header(header::ACCEPT_ENCODING, "identity");
    for (name, value) in [
        (header::IF_NONE_MATCH, &conditions.etag),
        (header::IF_MODIFIED_SINCE, &conditions.last_modified),
    ] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let asked = sender.send_request(request.body(Empty::new())?);
    let response = timeout(SILENCE, asked)
        .await
        .context("the server says nothing")?
        .context("ask the server")?;
    Ok(Answered { response, driver })
}

fn led(from: &Uri, location: &str) -> anyhow::Result<Uri> {
    let led = if location.starts_with('/') && !location.starts_with("//") {
        let scheme = from.scheme_str().unwrap_or_default();
        let authority = from.authority().map_or("", |authority| authority.as_str());
        parse_url(&format!("{scheme}://{authority}{location}"))
    } else {
        parse_url(location)
    };
    let led = led
        .map_err(anyhow::Error::msg)
        .context("the server leads elsewhere")?;
    ensure!(
        from.scheme_str() != Some("https") || led.scheme_str() == Some("https"),
        "the server leads from https to http, where anybody could change the list"
    );
    Ok(led)
}

/// Made for each connection and not kept: the system's authorities take more memory than many a list.
fn tls(ca_file: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let what = || format!("read certificate authorities from {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(what)? {
                roots.add(certificate.with_context(what)?).with_context(what)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    ensure!(
        !roots.is_empty(),
        "there are no certificate authorities to believe; install the package ca-certificates, or name a `ca_file`"
    );
    let mut made = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    made.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(made))
}
