//! DNS that passes our server by: over TLS, HTTPS and QUIC to resolvers of others.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

use integration::{Running, Service, eventually, world::INTERNET_V4};

use super::{
    browser::browse,
    stage::{Dig, Stage, path_of},
};

/// One of the well-known resolvers; here it stands in the test's own internet.
pub(super) const RESOLVER: &str = "9.9.9.9";
pub(super) const BLOCKED: &str = "[[match]]\npath = \"PATH\"\n[settings]\nblock_encrypted_dns = true\n";

/// That program of [`Stage::dig`] or [`Stage::python`] may not ask resolvers of others.
pub(super) fn blocked(stage: &Stage, name: &str, more: &str) {
    let path = path_of(&stage.world, name).display().to_string();
    stage
        .world
        .profile(name, &format!("{}{more}", BLOCKED.replace("PATH", &path)));
}

/// A real resolver that speaks TLS and HTTPS.
pub(super) fn resolver(stage: &Stage) -> Running {
    resolver_at(stage, "")
}

/// The same, which listens at `more` as well: lines of its configuration.
fn resolver_at(stage: &Stage, more: &str) -> Running {
    let world = &stage.world;
    let folder = world.root().join("resolver");
    fs::create_dir_all(&folder).unwrap();
    for address in [RESOLVER, "2620:fe::fe"] {
        world.internet.sh(&format!("ip address add {address} dev lo"));
    }
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    integration::certificate(&key, &certificate, "DNS:dns.quad9.net,IP:9.9.9.9");
    let settings = format!(
        "server:\n username: ''\n chroot: ''\n use-syslog: no\n do-daemonize: no\n pidfile: ''\n directory: '{folder}'\n \
         interface: {RESOLVER}@853\n interface: {RESOLVER}@443\n tls-port: 853\n https-port: 443\n \
         tls-service-key: '{}'\n tls-service-pem: '{}'\n access-control: 0.0.0.0/0 allow\n \
         local-zone: 'far.example' redirect\n local-data: 'far.example A 198.51.100.7'\n \
         local-data: 'near.example A {INTERNET_V4}'\n \
         local-data: 'use-application-dns.net A 198.51.100.7'\n local-data: 'mask.icloud.com A 198.51.100.7'\n{more}\
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
    // by another name: until then it is asked for
    eventually("the profile is in force", || {
        (bound.ask(&["@127.0.0.1", "one.one.one.one"]).status() == "NXDOMAIN").then_some(())
    });
    assert_eq!(bound.ask(&["@127.0.0.1", "dns.google"]).status(), "NXDOMAIN");
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

/// A real client of DNS over HTTPS: the address that it found for `near.example`; empty where it found none.
fn found_over_https(stage: &Stage, name: &str, resolver: &str) -> String {
    let _copied = Dig::new(&stage.world, "/usr/bin/curl", name);
    let mut command = stage.world.host.command(path_of(&stage.world, name));
    command
        .args([
            "-s",
            "-m",
            "10",
            "-w",
            "%{remote_ip}",
            "-o",
            "/dev/null",
            "--doh-insecure",
        ])
        .args(["--doh-url", &format!("https://{resolver}/dns-query")])
        .args(["--resolve", &format!("{resolver}:443:{INTERNET_V4}")])
        .arg("http://near.example/");
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_resolver_at_an_address_that_nobody_knows_is_known_by_the_name_in_the_hello() {
    let stage = Stage::new("dns-encrypted-hello", &[], "");
    let more = format!(" interface: {INTERNET_V4}@443\n");
    let _resolver = resolver_at(&stage, &more);
    let _web = stage.world.internet.echo(INTERNET_V4, 80);
    blocked(&stage, "bound", "");
    let near = INTERNET_V4.to_string();
    for name in ["free", "bound"] {
        let said = found_over_https(&stage, name, "unheard-of.example");
        assert_eq!(said, near, "{name}: what is on no list passes");
    }
    let events = stage.world.events();
    assert_eq!(found_over_https(&stage, "free", "doh.opendns.com"), near);
    eventually("the profile is in force", || {
        found_over_https(&stage, "bound", "doh.opendns.com")
            .is_empty()
            .then_some(())
    });
    events.wait_for("the name of the hello decides", |event| {
        let connection = event.connection.as_ref().unwrap();
        connection.domain == "doh.opendns.com"
            && connection.decision.as_ref().unwrap().why() == proto::flow::v1::Why::EncryptedDns
    });
}

#[test]
fn our_own_upstream_is_asked_over_tls_whatever_programs_may() {
    let mut stage = Stage::new("dns-encrypted-own", &[], "");
    let _resolver = resolver(&stage);
    let certificate = stage.world.root().join("resolver/certificate.pem");
    stage.world.stop(Service::Dns);
    stage.world.config_file(
        "dns.toml",
        &format!(
            "browser_canary = false\nrelay_canary = false\n[[resolve.upstreams.servers]]\n\
             server = \"tls://{RESOLVER}#dns.quad9.net\"\nca_file = {certificate:?}\n"
        ),
    );
    stage.world.config_file(
        "profiles.d/global.toml",
        "[settings]\nblock_encrypted_dns = true\n",
    );
    let free = path_of(&stage.world, "free").display().to_string();
    stage.world.profile(
        "free",
        &BLOCKED.replace("PATH", &free).replace("= true", "= false"),
    );
    eventually("the switch is in force for all", || {
        let kdig = Dig::new(&stage.world, "/usr/bin/kdig", "any");
        let said = kdig.kdig(&[&format!("@{RESOLVER}"), "+tls", "far.example"]);
        (!said.contains("198.51.100.7")).then_some(())
    });
    stage.world.start_service(Service::Dns);
    let (bound, free) = (stage.dig("bound"), stage.dig("free"));
    let canary = ["@127.0.0.1", "use-application-dns.net"];
    eventually("who may not ask others is told so", || {
        let said = bound.ask(&canary);
        (said.status() == "NXDOMAIN" && said.0.contains("browsers are to leave DNS")).then_some(())
    });
    assert_eq!(free.ask(&canary).answers(), ["198.51.100.7"], "who may is not");
    assert_eq!(
        bound.ask(&["@127.0.0.1", "far.example"]).answers(),
        ["198.51.100.7"],
        "our own server went there for it"
    );
    let _web = stage.world.internet.echo(INTERNET_V4, 80);
    for program in ["modest", "modest-net"] {
        let path = path_of(&stage.world, program).display().to_string();
        stage.world.profile(
            program,
            &BLOCKED.replace("PATH", &path).replace("= true", "= false"),
        );
    }
    let near = INTERNET_V4.to_string();
    eventually("who may asks whom he likes", || {
        let wanted = ["browser True", "relay True", &format!("https {near}")];
        (browse(&stage, "modest") == wanted).then_some(())
    });
    assert_eq!(
        browse(&stage, "bold"),
        [
            "browser False",
            "relay False",
            "https refused",
            &format!("system {near}")
        ],
        "a browser that insists is refused, and asks the system"
    );
    let said = bound.ask(&["@127.0.0.1", "_dns.resolver.arpa", "SVCB"]);
    assert_eq!(
        (said.status(), said.answers().len()),
        ("NOERROR", 0),
        "{}",
        said.0
    );
}
