use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Definition {
    text.parse().unwrap()
}

fn problem(text: &str) -> String {
    text.parse::<Definition>().unwrap_err().to_string()
}

#[test]
fn every_transport_is_read_with_its_own_port() {
    for (text, transport, name, address, path) in [
        ("udp://9.9.9.9", Transport::Udp, "", "9.9.9.9:53", ""),
        ("tcp://9.9.9.9:5353", Transport::Tcp, "", "9.9.9.9:5353", ""),
        (
            "tls://9.9.9.9#dns.Quad9.net",
            Transport::Tls,
            "dns.quad9.net",
            "9.9.9.9:853",
            "",
        ),
        (
            "tls://[2620:fe::fe]:8853#dns.quad9.net",
            Transport::Tls,
            "dns.quad9.net",
            "[2620:fe::fe]:8853",
            "",
        ),
        ("tls://9.9.9.9", Transport::Tls, "9.9.9.9", "9.9.9.9:853", ""),
        (
            "quic://94.140.14.14#dns.adguard.com",
            Transport::Quic,
            "dns.adguard.com",
            "94.140.14.14:853",
            "",
        ),
        (
            "https://1.1.1.1",
            Transport::Https,
            "1.1.1.1",
            "1.1.1.1:443",
            "/dns-query",
        ),
        (
            "h3://1.1.1.1/q{?dns}#one.one.one.one",
            Transport::H3,
            "one.one.one.one",
            "1.1.1.1:443",
            "/q",
        ),
        ("udp://[fe80::1%2]", Transport::Udp, "", "[fe80::1%2]:53", ""),
    ] {
        let made = read(text);
        assert_eq!(made.transport, transport, "{text}");
        assert_eq!(&*made.name, name, "{text}");
        assert_eq!(made.addresses[0].to_string(), address, "{text}");
        assert_eq!(&*made.path, path, "{text}");
    }
}

#[test]
fn a_name_alone_waits_for_the_bootstrap_servers() {
    let made = read("https://dns.quad9.net/dns-query");
    assert!(made.needs_bootstrap() && made.port == 443 && &*made.name == "dns.quad9.net");
}

#[test]
fn errors_name_the_input_and_the_remedy() {
    for (text, remedy) in [
        ("9.9.9.9", "udp://9.9.9.9"),
        ("dns.quad9.net", "say how it is spoken to"),
        ("dot://9.9.9.9", "unknown scheme \"dot\""),
        ("udp://dns.quad9.net", "given by its address"),
        ("udp://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
        ("tls://2620:fe::fe", "[2620:fe::fe]"),
        ("tls://[2620:fe::fe", "not closed"),
        ("tls://9.9.9.9:0", "no port"),
        ("tls://9.9.9.9:99999", "no port"),
        ("tls://9.9.9", "no address"),
        ("tls://0.0.0.0", "no server"),
        ("tls://", "no server is named"),
        ("tls://9.9.9.9/dns-query", "no path"),
        ("tls://9.9.9.9#", "no name that a certificate can prove"),
    ] {
        let told = problem(text);
        assert!(told.contains(text) && told.contains(remedy), "{text}: {told}");
    }
}

#[derive(Debug, serde::Deserialize)]
struct File {
    upstreams: Vec<Definition>,
}

#[test]
fn tables_say_what_a_text_cannot() {
    let file: File = toml::from_str(
        r#"
        [[upstreams]]
        server = "https://dns.company.example/dns-query"
        label = "company"
        addresses = ["10.0.0.53", "fd00::53"]
        ca_file = "/etc/ssl/company.pem"
        "#,
    )
    .unwrap();
    let made = &file.upstreams[0];
    assert_eq!(
        made.addresses,
        [
            "10.0.0.53:443".parse().unwrap(),
            "[fd00::53]:443".parse().unwrap()
        ]
    );
    assert_eq!((&*made.label, made.ca_file.is_some()), ("company", true));
}

#[test]
fn tables_are_strict() {
    for (text, told) in [
        (
            r#"[[upstreams]]
            server = "tls://9.9.9.9"
            pot = 1"#,
            "unknown field `pot`",
        ),
        (
            r#"[[upstreams]]
            server = "tls://9.9.9.9"
            addresses = ["1.1.1.1"]"#,
            "already",
        ),
        (
            r#"[[upstreams]]
            server = "udp://9.9.9.9"
            ca_file = "/x""#,
            "leave out `ca_file`",
        ),
        (
            r#"[[upstreams]]
            server = "tls://x.example"
            addresses = ["y.example"]"#,
            "\"y.example\" in `addresses`",
        ),
        ("upstreams = [3]", "an upstream server, as in"),
    ] {
        let error = toml::from_str::<File>(text).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(udp|tls|https|quic)://\\PC{0,40}") {
        if let Ok(made) = text.parse::<Definition>() {
            prop_assert!(made.transport.is_encrypted() || made.name.is_empty());
            prop_assert!(made.port > 0);
        }
    }
}
