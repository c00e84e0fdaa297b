//! DNS that passes our server by: over TLS, HTTPS and QUIC to resolvers of others.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    process::Command,
};

use integration::{Running, eventually, world::INTERNET_V4};

use super::stage::{Dig, Stage, path_of};

/// One of the well-known resolvers; here it stands in the test's own internet.
const RESOLVER: &str = "9.9.9.9";
const BLOCKED: &str = "[[match]]\npath = \"PATH\"\n[settings]\nblock_encrypted_dns = true\n";

fn blocked(stage: &Stage, name: &str, more: &str) {
    let path = path_of(&stage.world, name).display().to_string();
    stage
        .world
        .profile(name, &format!("{}{more}", BLOCKED.replace("PATH", &path)));
}

/// A real resolver that speaks TLS and HTTPS, on both of these addresses.
fn resolver(stage: &Stage) -> Running {
    let world = &stage.world;
    let folder = world.root().join("resolver");
    fs::create_dir_all(&folder).unwrap();
    for address in [RESOLVER, "2620:fe::fe"] {
        world.internet.sh(&format!("ip address add {address} dev lo"));
    }
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=dns.quad9.net",
            "-addext",
            "subjectAltName=DNS:dns.quad9.net,IP:9.9.9.9",
        ])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let settings = format!(
        "server:\n username: ''\n chroot: ''\n use-syslog: no\n do-daemonize: no\n pidfile: ''\n directory: '{folder}'\n \
         interface: {RESOLVER}@853\n interface: {RESOLVER}@443\n tls-port: 853\n https-port: 443\n \
         tls-service-key: '{}'\n tls-service-pem: '{}'\n access-control: 0.0.0.0/0 allow\n \
         local-zone: 'far.example' redirect\n local-data: 'far.example A 198.51.100.7'\n\
         remote-control:\n control-enable: no\n",
        key.display(),
        certificate.display(),
        folder = folder.display(),
    );
    let file = folder.join("unbound.conf");
    fs::write(&file, settings).unwrap();
    let mut command = world.internet.command("unbound");
    command.arg("-c").arg(&file);
    let running = Running::start_logged("unbound", command, &folder.join("log"));
    eventually("the resolver listens", || {
        let sockets = world.internet.sh("ss -Hltn");
        (sockets.contains(":853") && sockets.contains(":443")).then_some(())
    });
    running
}

#[test]
fn encrypted_dns_is_refused_for_who_may_not_and_passes_for_others() {
    let stage = Stage::new("dns-encrypted", &[], "");
    let _resolver = resolver(&stage);
    let ask = |name: &str, words: &[&str]| Dig::new(&stage.world, "/usr/bin/kdig", name).kdig(words);
    let far = |said: &str| said.contains("198.51.100.7");
    for how in ["+tls", "+https"] {
        let server = format!("@{RESOLVER}");
        assert!(far(&ask("free", &[&server, how, "far.example"])), "{how}");
    }

    blocked(&stage, "bound", "");
    let events = stage.world.events();
    eventually("the profile is in force", || {
        let said = ask("bound", &[&format!("@{RESOLVER}"), "+tls", "far.example"]);
        (!far(&said)).then_some(())
    });
    for how in ["+tls", "+https"] {
        let said = ask("bound", &[&format!("@{RESOLVER}"), how, "far.example"]);
        assert!(!far(&said), "{how}: {said}");
        assert!(
            far(&ask("free", &[&format!("@{RESOLVER}"), how, "far.example"])),
            "{how}"
        );
    }
    blocked(&stage, "quic", "");
    for (address, port) in [(RESOLVER, 853), (RESOLVER, 443), ("2620:fe::fe", 853)] {
        let address: IpAddr = address.parse().unwrap();
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        eventually("the profile is in force", || {
            let mut tls = stage.python(
                "quic",
                &format!("import socket; socket.create_connection(('{RESOLVER}', 853), 10)"),
            );
            (!tls.output().unwrap().status.success()).then_some(())
        });
        let mut asking = stage.python(
            "quic",
            &format!(
                "import socket, time\ns = socket.socket(socket.AF_INET6 if ':' in '{address}' else socket.AF_INET, socket.SOCK_DGRAM)\n\
                 s.connect(('{address}', {port})); s.send(b'x'); time.sleep(0.5)\n"
            ),
        );
        asking.output().unwrap();
        events.wait_for("QUIC to a resolver is refused", |event| {
            let connection = event.connection.as_ref().unwrap();
            let flow = connection.flow.as_ref().unwrap();
            let decision = connection.decision.as_ref().unwrap();
            flow.protocol == 17
                && flow.remote_address == octets
                && flow.remote_port == port
                && decision.why() == proto::flow::v1::Why::EncryptedDns
                && decision.source.as_str() == "quic#block_encrypted_dns"
        });
    }
    let elsewhere = SocketAddr::new(INTERNET_V4.into(), 443);
    stage.world.internet.echo(elsewhere.ip(), elsewhere.port());
    let mut other = stage.python(
        "quic",
        &format!("import socket; socket.create_connection(('{INTERNET_V4}', 443), 10).send(b'GET / HTTP/1.0\\r\\n\\r\\n')"),
    );
    let other = other.output().unwrap();
    assert!(other.status.success(), "what is no resolver's passes: {other:?}");
}

#[test]
fn the_owners_own_rule_and_names_of_resolvers() {
    let stage = Stage::new("dns-encrypted-names", &[], "");
    let _resolver = resolver(&stage);
    let (bound, ruled) = (
        stage.dig("bound"),
        Dig::new(&stage.world, "/usr/bin/kdig", "ruled"),
    );
    blocked(&stage, "bound", "");
    blocked(
        &stage,
        "ruled",
        "[[rule]]\naction = \"allow\"\nremote = \"9.9.9.9\"\n",
    );
    eventually("the profile is in force", || {
        let said = bound.ask(&["@127.0.0.1", "dns.google"]);
        said.0.contains("encrypted-dns").then_some(())
    });
    let said = bound.ask(&["@127.0.0.1", "abc.dns.nextdns.io"]);
    assert!(
        said.0.contains("EDE: 15") && said.0.contains("encrypted-dns"),
        "{}",
        said.0
    );
    assert_eq!(
        stage.nameserver.asked("dns.google"),
        0,
        "it was not even asked for"
    );
    assert_ne!(
        stage
            .dig("free")
            .ask(&["@127.0.0.1", "fine.example"])
            .answers()
            .len(),
        0
    );
    eventually("the owner's rule is in force", || {
        let said = ruled.kdig(&[&format!("@{RESOLVER}"), "+tls", "far.example"]);
        said.contains("198.51.100.7").then_some(())
    });
}
