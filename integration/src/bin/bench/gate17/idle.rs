//! What circuits that nobody uses cost a node in memory: each a TLS connection of HTTP/2 with one open CONNECT, as a relay has
//! it of every circuit that goes through it.

use std::{net::SocketAddr, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::{Method, Request};
use integration::{Namespace, Running, World, binary, eventually, world::INTERNET_V4};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::traffic::ECHO;
use crate::processes::resident_mib;

const CIRCUITS: usize = 1000;
const PORT: u16 = 443;
/// The node gives back what handshakes took.
const SETTLES: Duration = Duration::from_secs(5);

/// MiB before, and with them all.
pub(super) fn measure(world: &World) -> (f64, f64) {
    let host = Namespace::new("lonely");
    let link = Namespace::connect(&world.internet, &host);
    host.default_route(link.a);
    let folder = world.root().join("lonely");
    let settings = folder.join("etc/portmaster");
    std::fs::create_dir_all(&settings).expect("make a folder");
    let config = format!(
        "listen = ['{}:{PORT}']\naccess = 'none'\nexit = [{{ allow = true, to = '{INTERNET_V4}', ports = '*' }}]\n\
         [limits]\nconnections_per_network = 4096\nhandshakes_per_network = 4096\n",
        link.b.v4
    );
    std::fs::write(settings.join("gate17-node.toml"), config).expect("write a configuration");
    let mut command = host.command(binary("portmaster-gate17-node"));
    command.arg("--root").arg(&folder).env("PORTMASTER_LOG", "info");
    let node = Running::start_logged("node", command, &folder.join("log"));
    eventually("a node is ready", || {
        node.output().contains("ready").then_some(())
    });
    let pid = [node.pid().as_raw_nonzero().get()];
    let before = resident_mib(&pid);
    let node_address = SocketAddr::new(link.b.v4.into(), PORT).to_string();
    let to = format!("{INTERNET_V4}:{ECHO}");
    let mut command = world.internet.command(crate::arena::own());
    command
        .args([
            "load",
            "tunnel",
            "idle",
            &node_address,
            &to,
            &CIRCUITS.to_string(),
        ])
        .stdout(std::process::Stdio::piped());
    let (_client, said) = crate::arena::started(command);
    assert_eq!(said.trim(), CIRCUITS.to_string(), "not all circuits are open");
    thread::sleep(SETTLES);
    (before, resident_mib(&pid))
}

/// `bench load tunnel idle NODE TO COUNT`: opens them, says how many, and stays.
pub(in crate::gate17) fn load(node: SocketAddr, to: &str, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("build a tokio runtime");
    runtime.block_on(async {
        let tls = TlsConnector::from(Arc::new(anybody()));
        let mut kept = Vec::new();
        for _ in 0..count {
            match circuit(&tls, node, to).await {
                Ok(circuit) => kept.push(circuit),
                Err(error) => eprintln!("no circuit: {error:#}"),
            }
        }
        println!("{}", kept.len());
        std::future::pending::<()>().await;
    });
}

type Kept = (SendStream<Bytes>, RecvStream);

async fn circuit(tls: &TlsConnector, node: SocketAddr, to: &str) -> Result<Kept, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(node).await?;
    let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
    let (send, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(Method::CONNECT).uri(to).body(())?;
    let (answer, out) = send.ready().await?.send_request(request, false)?;
    let answer = answer.await?;
    if answer.status().is_success() {
        Ok((out, answer.into_body()))
    } else {
        Err(format!("the node says {}", answer.status()).into())
    }
}

fn anybody() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("it has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Whoever it is: the node is our own, and what it costs is the question.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
