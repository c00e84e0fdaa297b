use proptest::prelude::*;

use super::*;

const NETWORK: &str = "192.0.2.53:53";
const VPN: &str = "10.8.0.1:53";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn question(text: &str) -> Question {
    Question {
        name: name(text),
        kind: 1,
        class: 1,
    }
}

fn domain(text: &str) -> Domain {
    Domain {
        name: name(text.trim_start_matches('~')),
        route_only: text.starts_with('~'),
    }
}

fn link(server: &str, domains: &[&str], tunnel: bool, default_route: bool) -> Link {
    Link {
        interface: "x0".to_owned(),
        tunnel,
        servers: vec![server.parse().unwrap()],
        domains: domains.iter().map(|text| domain(text)).collect(),
        default_route,
    }
}

fn settings(text: &str) -> RouteSettings {
    toml::from_str(text).unwrap()
}

const OWNER: &str = "[upstreams]\nservers = ['tls://9.9.9.9#dns.quad9.net']\n";
const ZONES: &str = "[upstreams]\nservers = ['tls://9.9.9.9#dns.quad9.net']\n\
                     [[zones]]\nnames = ['corp.example', '10.in-addr.arpa']\nupstreams.servers = ['udp://10.0.0.1']\n\
                     [[zones]]\nnames = ['lab.corp.example']\nupstreams.servers = ['udp://10.0.0.2']\n";

fn at_home_with_vpn() -> System {
    System {
        source: None,
        links: vec![
            link(NETWORK, &["lan", "evil.example", "com"], false, true),
            link(VPN, &["~vpn.example", "office.example"], true, false),
        ],
    }
}

/// In one word: `up`, `zone N`, the server's address, `none`, `nobody`; and why.
fn told(settings: &RouteSettings, system: &System, asked: &str, opening: Opening) -> (String, Why) {
    let decision = Table::new(settings, system)
        .unwrap()
        .decide(&question(asked), opening);
    let way = match decision.way {
        Way::Upstreams => "up".to_owned(),
        Way::Zone(at) => format!("zone {at}"),
        Way::System(servers) => servers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        Way::NotFound => "none".to_owned(),
        Way::Nobody => "nobody".to_owned(),
    };
    (way, decision.why)
}

#[test]
fn each_name_goes_where_it_belongs() {
    let (settings, system) = (settings(ZONES), at_home_with_vpn());
    for (asked, way, why) in [
        ("example.org", "up", Why::Configured),
        ("corp.example", "zone 0", Why::Zone),
        ("www.corp.example", "zone 0", Why::Zone),
        ("x.lab.corp.example", "zone 1", Why::Zone),
        ("notcorp.example", "up", Why::Configured),
        ("4.3.2.10.in-addr.arpa", "zone 0", Why::Zone),
        ("1.2.168.192.in-addr.arpa", NETWORK, Why::Local),
        ("nas.lan", NETWORK, Why::SystemDomain),
        ("git.vpn.example", VPN, Why::SystemDomain),
        ("wiki.office.example", VPN, Why::SystemDomain),
        ("printer", NETWORK, Why::Local),
        ("printer.local", NETWORK, Why::Local),
        (".", "up", Why::Configured),
    ] {
        assert_eq!(
            told(&settings, &system, asked, Opening::Closed),
            (way.to_owned(), why),
            "{asked}"
        );
    }
}

#[test]
fn what_a_network_announces_takes_no_public_name_away() {
    let system = at_home_with_vpn();
    for public in ["www.evil.example", "bank.com", "com"] {
        let (way, _) = told(&settings(OWNER), &system, public, Opening::Closed);
        assert_eq!(way, if public == "com" { NETWORK } else { "up" }, "{public}");
    }
    let trusting = settings(&format!("trust_search_domains = true\n{OWNER}"));
    assert_eq!(
        told(&trusting, &system, "www.evil.example", Opening::Closed).0,
        NETWORK
    );
    let alone = settings(&format!("split_dns = false\n{OWNER}"));
    assert_eq!(told(&alone, &system, "git.vpn.example", Opening::Closed).0, "up");
}

#[test]
fn names_of_a_network_that_is_not_there_do_not_exist() {
    for asked in ["printer.local", "printer", "1.0.0.10.in-addr.arpa"] {
        let got = told(&settings(OWNER), &System::default(), asked, Opening::Closed);
        assert_eq!(got, ("none".to_owned(), Why::Local), "{asked}");
    }
}

#[test]
fn without_upstreams_the_systems_are_asked_unless_the_owner_forbids_it() {
    let system = at_home_with_vpn();
    let got = told(&settings(""), &system, "example.org", Opening::Closed);
    assert_eq!(got, (NETWORK.to_owned(), Why::SystemDefault));
    let never = settings("system_servers = 'never'");
    assert_eq!(told(&never, &system, "example.org", Opening::Closed).0, "nobody");
    assert_eq!(
        told(&settings(""), &System::default(), "example.org", Opening::Closed).0,
        "nobody"
    );
}

#[test]
fn a_tunnel_that_takes_all_names_takes_them_from_the_network_but_not_from_the_owner() {
    let mut system = at_home_with_vpn();
    system.links[1].domains.push(domain("~."));
    assert_eq!(
        told(&settings(""), &system, "example.org", Opening::Closed).0,
        VPN
    );
    assert_eq!(
        told(&settings(OWNER), &system, "example.org", Opening::Closed).0,
        "up"
    );
}

#[test]
fn portal_checks_go_to_the_network_only_while_one_is_suspected() {
    let (settings, system) = (settings(OWNER), at_home_with_vpn());
    let check = "detectportal.firefox.com";
    assert_eq!(told(&settings, &system, check, Opening::Closed).0, "up");
    assert_eq!(
        told(&settings, &system, check, Opening::Checks),
        (NETWORK.to_owned(), Why::PortalCheck)
    );
    for other in ["example.org", "x.detectportal.firefox.com", "firefox.com"] {
        assert_eq!(
            told(&settings, &system, other, Opening::Checks).0,
            "up",
            "{other}"
        );
    }
    assert_eq!(
        told(&settings, &system, "example.org", Opening::Everything),
        (NETWORK.to_owned(), Why::Opened)
    );
    assert_eq!(
        told(&settings, &System::default(), check, Opening::Checks).0,
        "up",
        "nobody else is there"
    );
}

#[test]
fn a_domain_of_several_links_is_asked_at_all_of_them() {
    let mut system = at_home_with_vpn();
    system
        .links
        .push(link("10.9.0.1:53", &["~vpn.example"], true, false));
    let (way, _) = told(&settings(OWNER), &system, "a.vpn.example", Opening::Closed);
    assert_eq!(way, format!("{VPN} 10.9.0.1:53"));
}

#[test]
fn a_zone_that_is_no_name_is_refused_with_its_text() {
    let wrong = settings("[[zones]]\nnames = ['a..b']\nupstreams.servers = ['udp://10.0.0.1']\n");
    let error = Table::new(&wrong, &System::default()).unwrap_err();
    assert!(error.to_string().contains("a..b"));
}

proptest! {
    #[test]
    fn the_longest_zone_wins(labels in prop::collection::vec("[a-c]", 1..6), cuts in prop::collection::vec(0usize..6, 1..4)) {
        let asked = labels.join(".") + ".example.org";
        let zone_at = |cut: &usize| labels.get((*cut).min(labels.len())..).unwrap().iter().map(String::as_str).chain(["example", "org"]).collect::<Vec<_>>().join(".");
        let zones: Vec<String> = cuts.iter().map(zone_at).collect();
        let mut settings = settings(OWNER);
        for zone in &zones {
            settings.zones.push(toml::from_str(&format!("names = ['{zone}']\nupstreams.servers = ['udp://10.0.0.1']")).unwrap());
        }
        let decision = Table::new(&settings, &System::default()).unwrap().decide(&question(&asked), Opening::Closed);
        let longest = zones.iter().map(String::len).max().unwrap();
        match decision.way {
            Way::Zone(at) => prop_assert_eq!(zones[at].len(), longest),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
