//! Names that QUIC connections ask for: a real client and a real server, no DNS to be seen.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
    time::Duration,
};

use integration::{Namespace, PATIENCE, World, profile};
use proto::interceptor::v1::ConnectionEvent;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::runtime::Runtime;
use verdict::sniff::{Sniffed, quic};

const NAMES: [&str; 4] = [
    "www.blocked.test",
    "fine.test",
    "deep.www.blocked.test",
    "other.test",
];
const PORT: u16 = 4433;
/// A client that nobody answers tries that long, over several of its own retransmissions.
const SILENCE: Duration = Duration::from_secs(3);

/// Which key share the client's hello has: it fits in a datagram, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    Small,
    PostQuantum,
}

/// A server for all [`NAMES`], and who can connect to it.
struct Bench {
    runtime: Runtime,
    authority: CertificateDer<'static>,
    world: World,
}

impl Bench {
    /// This test's own program is the client, with that default action and rules.
    fn new(label: &str, default_action: &str, rules: &str) -> Self {
        let world = World::builder(label)
            .profile(
                "client",
                &profile(&std::env::current_exe().unwrap(), default_action, rules),
            )
            .start();
        let (certificate, key) = certificate(world.root());
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let bench = Self {
            runtime,
            authority: certificate.clone(),
            world,
        };
        for address in bench.world.internet_addresses() {
            bench.serve(address, certificate.clone(), key.clone_key());
        }
        bench
    }

    fn serve(&self, address: IpAddr, certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) {
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let endpoint = self.endpoint(&self.world.internet, SocketAddr::new(address, PORT), Some(config));
        self.runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((mut to, mut from)) = connection.accept_bi().await {
                        let said = from.read_to_end(1 << 10).await.unwrap_or_default();
                        let _ = to.write_all(&said).await;
                        let _ = to.finish();
                    }
                });
            }
        });
    }

    fn endpoint(&self, place: &Namespace, address: SocketAddr, server: Option<ServerConfig>) -> Endpoint {
        let socket = place.enter(|| UdpSocket::bind(address)).unwrap();
        let _inside = self.runtime.enter();
        Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime)).unwrap()
    }

    /// Connects from a new socket and talks. A refusal is silence: quinn does not end for errors of the network.
    fn connects(&self, to: SocketAddr, name: &str, hello: Hello, patience: Duration) -> bool {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0_u16; 8]),
        };
        let endpoint = self.endpoint(&self.world.host, SocketAddr::new(any, 0), None);
        let config = self.client(hello);
        self.runtime.block_on(async {
            let connecting = endpoint.connect_with(config, to, name).unwrap();
            let talk = async {
                let connection = connecting.await.ok()?;
                let (mut mouth, mut ear) = connection.open_bi().await.ok()?;
                mouth.write_all(b"hello").await.ok()?;
                mouth.finish().ok()?;
                ear.read_to_end(1 << 10).await.ok()
            };
            let heard = tokio::time::timeout(patience, talk).await.ok().flatten();
            heard.is_some_and(|heard| heard == b"hello")
        })
    }

    fn client(&self, hello: Hello) -> ClientConfig {
        let groups: Vec<&dyn SupportedKxGroup> = match hello {
            Hello::Small => vec![aws_lc_rs::kx_group::X25519],
            Hello::PostQuantum => vec![aws_lc_rs::kx_group::X25519MLKEM768],
        };
        let provider = CryptoProvider {
            kx_groups: groups,
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }
}

/// For all [`NAMES`], by its own authority.
fn certificate(folder: &Path) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let (certificate, key) = (folder.join("server.pem"), folder.join("server.key"));
    let names = NAMES.map(|name| format!("DNS:{name}")).join(",");
    integration::certificate(&key, &certificate, &names);
    (
        CertificateDer::from_pem_file(&certificate).unwrap(),
        PrivateKeyDer::from_pem_file(&key).unwrap(),
    )
}

fn told(event: &ConnectionEvent, name: &str) -> bool {
    event
        .connection
        .as_ref()
        .is_some_and(|connection| connection.domain == name)
}

const BLOCK: &str = "[[rule]]\naction = \"block\"\nremote = \"*.blocked.test\"\n";

#[test]
fn a_quic_connection_is_decided_by_the_name_that_it_asks_for() {
    let bench = Bench::new("quic", "allow", BLOCK);
    let events = bench.world.events();
    for hello in [Hello::Small, Hello::PostQuantum] {
        for to in bench.world.internet_addresses() {
            let to = SocketAddr::new(to, PORT);
            assert!(bench.connects(to, "fine.test", hello, PATIENCE), "{to} {hello:?}");
            assert!(
                !bench.connects(to, "www.blocked.test", hello, SILENCE),
                "{to} {hello:?}"
            );
        }
    }
    events.wait_for("the refused name is told", |event| {
        told(event, "www.blocked.test")
    });
    events.wait_for("the permitted name is told", |event| told(event, "fine.test"));
}

#[test]
fn where_only_one_name_is_permitted_others_are_refused() {
    let allow = "[[rule]]\naction = \"allow\"\nremote = \"fine.test\"\n";
    let bench = Bench::new("quic", "block", allow);
    for hello in [Hello::Small, Hello::PostQuantum] {
        for to in bench.world.internet_addresses() {
            let to = SocketAddr::new(to, PORT);
            assert!(bench.connects(to, "fine.test", hello, PATIENCE), "{to} {hello:?}");
            assert!(
                !bench.connects(to, "other.test", hello, SILENCE),
                "{to} {hello:?}"
            );
        }
    }
}

#[test]
fn of_a_refused_connection_nothing_reaches_the_other_end() {
    let bench = Bench::new("quic", "allow", BLOCK);
    for (port, to) in (4500..).zip(bench.world.internet_addresses()) {
        for (turn, hello) in [Hello::Small, Hello::PostQuantum].into_iter().enumerate() {
            let port = port + 10 * u16::try_from(turn).unwrap();
            let (to, heard) = bench.world.internet.datagrams(to, port);
            assert!(!bench.connects(to, "www.blocked.test", hello, SILENCE), "{to}");
            assert_eq!(heard.try_recv().ok(), None, "{to} {hello:?}");

            // what the other end hears of a permitted one, and that there are hellos of both kinds
            assert!(
                !bench.connects(to, "fine.test", hello, SILENCE),
                "nobody answers at {to}"
            );
            let hellos = [(); 2].map(|()| heard.recv_timeout(PATIENCE).unwrap());
            let name = |count| quic::name(hellos.iter().take(count).map(Vec::as_slice));
            let first = match hello {
                Hello::Small => Sniffed::Name("fine.test".into()),
                Hello::PostQuantum => Sniffed::NeedMore,
            };
            assert_eq!(name(1), first, "{to}");
            assert_eq!(name(2), Sniffed::Name("fine.test".into()), "{to}");
        }
    }
}
