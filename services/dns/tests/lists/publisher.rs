//! A server of lists on loopback that says, octet by octet, what a test wants it to say.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// The name that it proves over TLS.
pub(crate) const NAME: &str = "lists.example";

/// Everything up to the end of the connection, head and body.
type Answer = Vec<u8>;

#[derive(Default)]
struct Said {
    answers: HashMap<String, Answer>,
    /// Heads of requests, in order.
    requests: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Publisher {
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<Said>>,
}

impl Publisher {
    pub(crate) async fn clear() -> Self {
        Self::start(None).await
    }

    /// And the certificate to believe, in PEM form.
    pub(crate) async fn encrypted() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = made.cert.der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        (Self::start(Some(acceptor)).await, made.cert.pem())
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let made = Self {
            address: listener.local_addr().unwrap(),
            said: Arc::default(),
        };
        let server = made.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (server.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => server.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        made
    }

    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(octet) => head.push(octet),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let answer = {
            let mut said = self.said.lock().unwrap();
            said.requests.push(head);
            said.answers.get(&path).cloned()
        };
        let answer =
            answer.unwrap_or_else(|| b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec());
        // who has heard enough goes away
        let _gone = stream.write_all(&answer).await;
        let _gone = stream.shutdown().await;
    }

    pub(crate) fn says(&self, path: &str, answer: impl Into<Vec<u8>>) {
        self.said
            .lock()
            .unwrap()
            .answers
            .insert(path.into(), answer.into());
    }

    /// A list as it should be published.
    pub(crate) fn publishes(&self, path: &str, etag: &str, list: &str) {
        let length = list.len();
        self.says(
            path,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"{etag}\"\r\nLast-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\n\r\n{list}"),
        );
    }

    /// Heads of requests, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.said.lock().unwrap().requests.clone()
    }

    pub(crate) fn last_request(&self) -> String {
        self.requests().pop().unwrap()
    }
}
