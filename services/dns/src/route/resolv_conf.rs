//! `/etc/resolv.conf` (resolv.conf(5)). Pure, but for the interface of a link-local address, whose number a caller knows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use dns_core::Name;

use super::system::{Domain, Link, Source, System, is_ours};

/// Reads a file's text. Lines that mean nothing to us, or nothing at all, are left out, as the C library does.
/// `interface` gives an interface's number.
pub(super) fn parse(text: &str, interface: impl Fn(&str) -> Option<u32>) -> System {
    let mut link = Link {
        default_route: true,
        ..Link::default()
    };
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(|word| address(word, &interface));
                link.servers.extend(server.filter(|server| !is_ours(server)));
            }
            // The last of these lines counts.
            Some("search" | "domain") => {
                link.domains = words.filter_map(domain).collect();
            }
            _ => {}
        }
    }
    let source = (!link.servers.is_empty()).then_some(Source::ResolvConf);
    System {
        source,
        links: source.map(|_| link).into_iter().collect(),
    }
}

/// `~domain` stands only in what `portmaster dns enable` keeps of systemd-resolved's, which writes it that way.
fn domain(word: &str) -> Option<Domain> {
    let name = Name::parse(word.trim_start_matches('~')).ok()?;
    Some(Domain {
        name,
        route_only: word.starts_with('~'),
    })
}

/// An address, with its interface where it is link-local: `fe80::1%eth0`.
pub(super) fn address(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)),
        Some((address, scope)) => {
            let scope = scope.parse().ok().or_else(|| interface(scope))?;
            Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, 53, 0, scope).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> System {
        parse(text, |name| (name == "eth0").then_some(2))
    }

    fn servers(text: &str) -> Vec<String> {
        read(text).servers().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_and_search_domains_are_read() {
        let text = "# a comment\nsearch old.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1 # trailing\n\
                    nameserver fe80::1%eth0\noptions edns0\nsearch lan corp.example\nnonsense\nnameserver\nnameserver x";
        assert_eq!(
            servers(text),
            ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%2]:53"]
        );
        let system = read(text);
        let names: Vec<_> = system
            .links
            .iter()
            .flat_map(|link| &link.domains)
            .map(|domain| domain.name.to_string())
            .collect();
        assert_eq!(names, ["lan", "corp.example"]);
        assert!(system.links.iter().all(|link| link.default_route));
    }

    #[test]
    fn domains_for_routing_are_kept_as_such() {
        let system = read("nameserver 192.0.2.1\nsearch lan ~. ~corp.example\n");
        let domains = system.links.iter().flat_map(|link| &link.domains);
        let told: Vec<_> = domains
            .map(|one| (one.name.to_string(), one.route_only))
            .collect();
        let expected = [("lan", false), (".", true), ("corp.example", true)];
        assert_eq!(told, expected.map(|(name, route)| (name.to_owned(), route)));
    }

    #[test]
    fn ourselves_and_the_stub_that_asks_us_are_left_out() {
        for ours in [
            "127.0.0.1",
            "::1",
            "127.0.0.17",
            "127.0.0.53",
            "0.0.0.0",
            "::ffff:127.0.0.1",
        ] {
            assert!(read(&format!("nameserver {ours}\n")).is_empty(), "{ours}");
        }
        assert_eq!(
            servers("nameserver 127.0.0.1\nnameserver 127.0.0.2"),
            ["127.0.0.2:53"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(nameserver |search |\\PC|\n){0,40}") {
            let _ = read(&text);
        }
    }
}
