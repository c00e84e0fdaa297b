//! DNS over QUIC (RFC 9250): of programs to resolvers of others, and of ours to its own.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use integration::{Service, eventually, world::INTERNET_V4};
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, crypto::rustls::QuicServerConfig};
use rustls::{
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::runtime::Runtime;

use super::{
    authority,
    encrypted::{BLOCKED, RESOLVER, blocked, resolver},
    stage::{Dig, Stage, path_of},
};

/// One of the well-known resolvers, which speaks QUIC here.
const QUIC: &str = "149.112.112.112";
/// What it says, and nobody else.
const ADDRESS: &str = "203.0.113.0";

/// A resolver that has this address for every name, at these places of the internet, with the certificate in `folder`. It ends
/// with what is returned.
fn serve(stage: &Stage, folder: &Path, places: &[SocketAddr]) -> Runtime {
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    tls.alpn_protocols = vec![b"doq".to_vec()];
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    for place in places {
        let socket = stage.world.internet.enter(|| UdpSocket::bind(place)).unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            let config = Some(config.clone());
            Endpoint::new(EndpointConfig::default(), config, socket, Arc::new(TokioRuntime)).unwrap()
        };
        runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(answer(incoming));
            }
        });
    }
    runtime
}

/// A stream for each query, which has its length before it, as over TCP.
async fn answer(incoming: quinn::Incoming) {
    let Ok(connection) = incoming.await else { return };
    while let Ok((mut to, mut from)) = connection.accept_bi().await {
        let said = from.read_to_end(1 << 12).await.unwrap_or_default();
        let asked = authority::read(said.get(2..).unwrap_or_default(), false);
        let message = asked.addresses(1, 300);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        let _gone = to.write_all(&[&length[..], &message].concat()).await;
        let _gone = to.finish();
    }
}

/// What kdig finds at a place that it asks over QUIC, with that name in its hello.
fn found(stage: &Stage, program: &str, (place, hello): (SocketAddr, &str)) -> bool {
    let kdig = Dig::new(&stage.world, "/usr/bin/kdig", program);
    let said = kdig.kdig(&[
        &format!("@{}", place.ip()),
        "-p",
        &place.port().to_string(),
        // +tls-sni alone means TLS
        &format!("+tls-sni={hello}"),
        "+quic",
        "far.example",
    ]);
    said.contains(ADDRESS)
}

#[test]
fn dns_over_quic_is_refused_by_port_address_and_hello_and_ours_is_asked_all_the_same() {
    let mut stage = Stage::new("dns-quic", &[], "");
    let _resolver = resolver(&stage);
    let folder = stage.world.root().join("resolver");
    let at = |address: IpAddr, port| SocketAddr::new(address, port);
    let (known, unknown): (IpAddr, _) = (QUIC.parse().unwrap(), IpAddr::from(INTERNET_V4));
    let places = [
        (at(known, 853), "dns.quad9.net"),
        (at(known, 8853), "dns.quad9.net"),
        (at(known, 443), "dns.quad9.net"),
        // at an address that is on no list the hello alone tells
        (at(unknown, 443), "doh.opendns.com"),
        (at(unknown, 8853), "doh.opendns.com"),
        (at(unknown, 853), "unheard-of.example"),
    ];
    stage.world.internet.add_address(known);
    let _server = serve(&stage, &folder, &places.map(|(place, _)| place));
    let ordinary = (at(unknown, 443), "unheard-of.example");
    for place in places.into_iter().chain([ordinary]) {
        assert!(found(&stage, "free", place), "{place:?}");
    }
    let events = stage.world.events();
    blocked(&stage, "bound", "");
    eventually("the profile is in force", || {
        (!found(&stage, "bound", places[0])).then_some(())
    });
    for place in places {
        assert!(!found(&stage, "bound", place), "{place:?}");
        let remote = place.0;
        events.wait_for("it is refused for what it is", |event| {
            let connection = event.connection.as_ref().unwrap();
            let flow = connection.flow.as_ref().unwrap();
            let decision = connection.decision.as_ref().unwrap();
            flow.protocol == 17
                && flow.remote_port == u32::from(remote.port())
                && flow.remote_address == proto::convert::octets(remote.ip())
                && decision.why() == proto::flow::v1::Why::EncryptedDns
                && decision.source.as_str() == "bound#block_encrypted_dns"
        });
    }
    assert!(found(&stage, "bound", ordinary), "what is no resolver's passes");
    assert!(found(&stage, "free", places[0]), "another program's profile");

    // and it is said so, by command
    let bound = path_of(&stage.world, "bound").display().to_string();
    let explain = |words: &[&str]| {
        let mut command = stage.world.command(integration::binary("portmaster"));
        let output = command.args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for to in ["9.9.9.9:853", "9.9.9.9:8853", "9.9.9.9:443", "192.0.2.7:853"] {
        for protocol in ["tcp", "udp"] {
            let said = explain(&["explain", "--program", &bound, "--to", to, "--protocol", protocol]);
            assert!(
                said.contains("encrypted-dns") && said.contains("bound#block_encrypted_dns"),
                "{to}: {said}"
            );
        }
    }
    let said = explain(&[
        "explain",
        "--program",
        &bound,
        "--to",
        "192.0.2.7:443",
        "--domain",
        "doh.opendns.com",
    ]);
    assert!(said.contains("encrypted-dns"), "{said}");
    let said = explain(&["dns", "explain", "--app", &bound, "dns.google"]);
    assert!(
        said.contains("encrypted-dns") && said.contains("bound#block_encrypted_dns"),
        "{said}"
    );

    // for all programs, and our own servers are asked over QUIC and HTTPS
    fs::write(
        stage.world.config_dir().join("profiles.d/global.toml"),
        "[settings]\nblock_encrypted_dns = true\n",
    )
    .unwrap();
    eventually("the switch is in force for all", || {
        (!found(&stage, "any", places[0])).then_some(())
    });
    for (server, address) in [
        (format!("quic://{QUIC}:8853#dns.quad9.net"), ADDRESS),
        (format!("quic://{INTERNET_V4}:443#dns.quad9.net"), ADDRESS),
        (format!("https://{RESOLVER}#dns.quad9.net"), "198.51.100.7"),
    ] {
        let certificate = folder.join("certificate.pem");
        stage.world.config_file(
            "dns.toml",
            &format!("[[resolve.upstreams.servers]]\nserver = {server:?}\nca_file = {certificate:?}\n"),
        );
        stage.world.stop(Service::Dns);
        let _old = fs::remove_file(stage.world.state_dir(Service::Dns).join("cache"));
        stage.world.start_service(Service::Dns);
        let said = stage.dig("asks").ask(&["@127.0.0.1", "far.example"]);
        assert_eq!(said.answers(), [address], "{server}: {}", said.0);
    }
    // the profile's own word stands above that for all
    let free = path_of(&stage.world, "free").display().to_string();
    let text = BLOCKED.replace("PATH", &free).replace("= true", "= false");
    stage.world.profile("free", &text);
    eventually("its own profile is in force", || {
        found(&stage, "free", places[0]).then_some(())
    });
}
