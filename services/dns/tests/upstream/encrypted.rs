//! QUIC and HTTP/3, for which the distribution has no server: hickory's, in this process.

use std::{future::Future, pin::Pin, sync::Arc};

use dns::upstream::Error;
use hickory_proto::{
    op::{Metadata, ResponseCode},
    rr::{RData, Record, rdata::A},
};
use hickory_server::{
    Server,
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::net::UdpSocket;

use super::{
    GENEROUS, addresses, ask,
    certificates::{Certificates, NAME},
    pool,
    program::Unbound,
};

/// Knows one address for every name.
struct Knows;

type Answered<'a> = Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'a>>;

impl RequestHandler for Knows {
    fn handle_request<'s, 'r, 'a, R, T>(&'s self, request: &'r Request, mut response: R) -> Answered<'a>
    where
        R: ResponseHandler + 'a,
        T: Time + 'a,
        's: 'a,
        'r: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let info = request.request_info().unwrap();
            let record = Record::from_rdata(
                info.query.original().name().clone(),
                60,
                RData::A(A::new(192, 0, 2, 8)),
            );
            let mut metadata = Metadata::response_from_request(info.metadata);
            metadata.response_code = ResponseCode::NoError;
            let records = [record];
            let answer =
                MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
            response.send_response(answer).await.unwrap()
        })
    }
}

fn key_of(certificates: &Certificates) -> Arc<dyn ResolvesServerCert> {
    let chain = vec![CertificateDer::from_pem_file(certificates.path("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).unwrap();
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap();
    Arc::new(SingleCertAndKey::from(key))
}

/// The server, and what it is called.
async fn start(certificates: &Certificates, scheme: &str) -> (Server<Knows>, u16) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut server = Server::new(Knows);
    let key = key_of(certificates);
    match scheme {
        "quic" => server.register_quic_listener(socket, GENEROUS, key).unwrap(),
        _ => server.register_h3_listener(socket, GENEROUS, key, None).unwrap(),
    }
    (server, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_and_http3_answer_and_share_one_connection() {
    let certificates = Certificates::new();
    for scheme in ["quic", "h3"] {
        let (_server, port) = start(&certificates, scheme).await;
        let url = format!("{scheme}://127.0.0.1:{port}#{NAME}");
        let pool = pool(&Unbound::upstream(&url, &certificates.path("ca.pem")));
        let first = ask(&pool, "www.example")
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"));
        assert!(first.encrypted);
        let asked: Vec<_> = (0..20)
            .map(|n| {
                let pool = pool.clone();
                tokio::spawn(async move { addresses(&ask(&pool, &format!("{n}.example")).await.unwrap()) })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.unwrap(), ["192.0.2.8"]);
        }
        assert_eq!(pool.states()[0].connections, 1, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_too_who_cannot_prove_the_name_is_asked_nothing() {
    let certificates = Certificates::new();
    for scheme in ["quic", "h3"] {
        let (_server, port) = start(&certificates, scheme).await;
        let url = format!("{scheme}://127.0.0.1:{port}#another.example");
        let got = ask(
            &pool(&Unbound::upstream(&url, &certificates.path("ca.pem"))),
            "www.example",
        )
        .await;
        assert!(matches!(got, Err(Error::Tls { .. })), "{url}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_the_next_query_over_quic_is_answered() {
    let certificates = Certificates::new();
    for scheme in ["quic", "h3"] {
        let (mut server, port) = start(&certificates, scheme).await;
        let url = format!("{scheme}://127.0.0.1:{port}#{NAME}");
        let pool = pool(&Unbound::upstream(&url, &certificates.path("ca.pem")));
        ask(&pool, "www.example").await.unwrap();
        server.shutdown_gracefully().await.unwrap();
        drop(server);
        let mut again = Server::new(Knows);
        let socket = loop {
            match UdpSocket::bind(("127.0.0.1", port)).await {
                Ok(socket) => break socket,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        let key = key_of(&certificates);
        match scheme {
            "quic" => again.register_quic_listener(socket, GENEROUS, key).unwrap(),
            _ => again.register_h3_listener(socket, GENEROUS, key, None).unwrap(),
        }
        let end = std::time::Instant::now() + GENEROUS;
        while let Err(error) = ask(&pool, "www.example").await {
            assert!(std::time::Instant::now() < end, "{url}: {error}");
        }
    }
}
