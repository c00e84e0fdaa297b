use super::*;

fn settings() -> Settings {
    Settings {
        browser_canary: true,
        relay_canary: true,
        host: Name::parse("desk.example.org").unwrap(),
    }
}

fn of(name: &str, kind: u16) -> Outcome {
    let own: IpAddr = "192.168.1.7".parse().unwrap();
    outcome(
        Name::parse(name).unwrap().as_wire(),
        kind,
        &settings(),
        |address| address == own,
    )
}

fn what(name: &str, kind: u16) -> What {
    match of(name, kind) {
        Outcome::Answered(answered) => answered.what,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn localhost_is_this_host() {
    assert_eq!(what("LOCALHOST", kind::A), What::Address([127, 0, 0, 1].into()));
    assert_eq!(
        what("a.b.localhost", kind::AAAA),
        What::Address(Ipv6Addr::LOCALHOST.into())
    );
    assert_eq!(what("localhost", kind::MX), What::NoData);
    assert_eq!(of("localhost.example.org", kind::A), Outcome::Ordinary);
}

#[test]
fn names_of_nobody_do_not_exist() {
    for name in [
        "a.invalid",
        "invalid",
        "x.test",
        "abcdef.onion",
        "a.alt",
        "x.service.arpa",
    ] {
        assert_eq!(what(name, kind::A), What::NxDomain, "{name}");
    }
    for name in [
        "invalid.example.org",
        "testing",
        "onion.example",
        ".",
        "com",
        "latest",
    ] {
        assert_eq!(of(name, kind::A), Outcome::Ordinary, "{name}");
    }
}

#[test]
fn the_networks_own_names_go_to_the_network() {
    assert_eq!(of("printer.local", kind::A), Outcome::Network(Zone::Local));
    assert_eq!(of("nas.home.arpa", kind::A), Outcome::Network(Zone::Home));
    assert_eq!(
        of("1.0.0.10.in-addr.arpa", kind::PTR),
        Outcome::Network(Zone::Reverse)
    );
    assert_eq!(of("168.192.in-addr.arpa", 6), Outcome::Network(Zone::Reverse));
    assert_eq!(of("31.172.in-addr.arpa", 6), Outcome::Network(Zone::Reverse));
    assert_eq!(of("8.e.f.ip6.arpa", 6), Outcome::Network(Zone::Reverse));
    assert_eq!(of("d.f.ip6.arpa", 6), Outcome::Network(Zone::Reverse));
    for name in [
        "32.172.in-addr.arpa",
        "192.in-addr.arpa",
        "8.8.8.8.in-addr.arpa",
        "arpa",
        "in-addr.arpa",
        "ipv4only.arpa",
    ] {
        assert_eq!(of(name, kind::PTR), Outcome::Ordinary, "{name}");
    }
}

#[test]
fn own_addresses_have_the_hosts_name() {
    let host = What::Pointer(settings().host);
    let localhost = What::Pointer(Name::parse("localhost").unwrap());
    assert_eq!(what("7.1.168.192.in-addr.arpa", kind::PTR), host);
    assert_eq!(what("7.1.168.192.in-addr.arpa", kind::TXT), What::NoData);
    assert_eq!(what("1.0.0.127.in-addr.arpa", kind::PTR), localhost);
    let one = format!("1.{}ip6.arpa", "0.".repeat(31));
    assert_eq!(what(&one, kind::PTR), localhost);
    assert_eq!(of("07.1.168.192.in-addr.arpa", kind::PTR), Outcome::Ordinary);
    assert_eq!(of("1.7.1.168.192.in-addr.arpa", kind::PTR), Outcome::Ordinary);
}

#[test]
fn ways_round_this_server_are_closed_where_the_owner_says_so() {
    let open = Settings {
        browser_canary: false,
        relay_canary: false,
        ..settings()
    };
    for name in ["use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com"] {
        assert_eq!(what(name, kind::A), What::NxDomain, "{name}");
        assert_eq!(
            outcome(Name::parse(name).unwrap().as_wire(), kind::A, &open, |_| false),
            Outcome::Ordinary
        );
    }
    assert_eq!(of("a.mask.icloud.com", kind::A), Outcome::Ordinary);
    assert_eq!(of("www.icloud.com", kind::A), Outcome::Ordinary);
    assert_eq!(what("_dns.resolver.arpa", 64), What::NoData);
}

#[test]
fn answers_are_written() {
    use crate::wire::Response;
    let message = [
        &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        b"\x09localHOST\0",
        &[0, 1, 0, 1],
    ]
    .concat();
    let query = Query::parse(&message).unwrap();
    let mut out = Vec::new();
    for (what, code, addresses) in [
        (What::Address([127, 0, 0, 1].into()), 0, 1),
        (What::NoData, 0, 0),
        (What::NxDomain, 3, 0),
        (What::Pointer(settings().host), 0, 0),
    ] {
        Answered { what, why: "x" }.write(&query, &Reply::stream(), &mut out);
        let read = Response::parse(&out).unwrap();
        assert_eq!((read.code(), read.addresses().unwrap().len()), (code, addresses));
        assert!(read.records().all(|record| record.is_ok()));
    }
}
