//! A client of HTTP/2 that takes any certificate: what is carried is the matter here.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Method, Request, Response};
use integration::Namespace;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("1.3 alone".to_owned()))
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A connection to a node, and the task that moves it.
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) moving: JoinHandle<Result<(), h2::Error>>,
    /// What is shown with `CONNECT`, as `Proxy-Authorization`.
    pub(crate) shown: Option<String>,
}

/// Runs a client's story at its host.
pub(crate) fn within<T: Send>(host: &Namespace, story: impl Future<Output = T> + Send) -> T {
    host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let timed = async { tokio::time::timeout(3 * integration::PATIENCE, story).await };
        runtime.block_on(timed).expect("the story ends in time")
    })
}

/// TLS, then HTTP/2.
pub(crate) async fn connect(node: SocketAddr) -> Client {
    connect_showing(node, |_| None).await
}

/// The same, showing what comes of the connection of TLS.
pub(crate) async fn connect_showing(
    node: SocketAddr,
    show: impl FnOnce(&rustls::ClientConnection) -> Option<String>,
) -> Client {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(node).await.unwrap();
    let name = ServerName::IpAddress(node.ip().into());
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let shown = show(stream.get_ref().1);
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await
        .unwrap();
    Client {
        send,
        moving: tokio::spawn(connection),
        shown,
    }
}

impl Client {
    /// `CONNECT`.
    pub(crate) async fn open(&self, target: &str) -> (Response<RecvStream>, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = target.parse().unwrap();
        if let Some(shown) = &self.shown {
            let headers = request.headers_mut();
            headers.insert(http::header::PROXY_AUTHORIZATION, shown.parse().unwrap());
        }
        let (response, stream) = send.send_request(request, false).unwrap();
        (response.await.unwrap(), stream)
    }
}

impl Client {
    /// `connect-udp` (RFC 9298).
    pub(crate) async fn open_udp(&self, to: SocketAddr) -> (Response<RecvStream>, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        while !send.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let host = to.ip().to_string().replace(':', "%3A");
        let path = format!("https://node/.well-known/masque/udp/{host}/{}/", to.port());
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri(path)
            .header("capsule-protocol", "?1")
            .extension(h2::ext::Protocol::from_static("connect-udp"))
            .body(())
            .unwrap();
        let (response, stream) = send.send_request(request, false).unwrap();
        (response.await.unwrap(), stream)
    }
}

/// So many octets of a stream, or all of them.
pub(crate) async fn read(body: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < count {
        let Some(part) = body.data().await else { break };
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        read.extend_from_slice(&part);
    }
    read
}
