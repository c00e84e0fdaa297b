//! Names that belong to the network one is in, whoever is asked for the rest. Pure.

use std::sync::LazyLock;

use dns_core::Name;

/// By these names systems and browsers look for captive portals. Each is a fixed name that tells nothing of what its user
/// does; sources: the programs' own defaults (Firefox, Android and Chrome, Apple, NetworkManager in its distributions,
/// Windows, Kindle, Ubuntu, Arch).
const PORTAL_CHECKS: [&str; 18] = [
    "detectportal.firefox.com",
    "connectivitycheck.gstatic.com",
    "connectivitycheck.android.com",
    "clients3.google.com",
    "captive.apple.com",
    "nmcheck.gnome.org",
    "network-test.debian.org",
    "connectivity-check.ubuntu.com",
    "fedoraproject.org",
    "conncheck.opensuse.org",
    "ping.archlinux.org",
    "www.archlinux.org",
    "networkcheck.kde.org",
    "www.msftconnecttest.com",
    "ipv6.msftconnecttest.com",
    "www.msftncsi.com",
    "dns.msftncsi.com",
    "spectrum.s3.amazonaws.com",
];

/// Zones that only the network one is in can know: reverse zones of private addresses (RFC 6303 §4, RFC 7793), what is
/// reserved for use at home (RFC 8375) and inside (`internal`, ICANN 2024), and mDNS' domain (RFC 6762).
const LOCAL_ZONES: [&str; 13] = [
    "local",
    "internal",
    "home.arpa",
    "10.in-addr.arpa",
    "168.192.in-addr.arpa",
    "254.169.in-addr.arpa",
    "d.f.ip6.arpa",
    "c.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "localdomain",
];

/// Domains that no public zone has, and that networks call themselves by (RFC 6762 appendix G, and what routers do);
/// the last one is public, and belongs to the maker of the routers that call themselves so.
const NETWORK_DOMAINS: [&str; 10] = [
    "lan",
    "home",
    "corp",
    "intranet",
    "private",
    "internal",
    "local",
    "localdomain",
    "localnet",
    "fritz.box",
];

static CHECKS: LazyLock<Vec<Name>> = LazyLock::new(|| names(&PORTAL_CHECKS));
static LOCAL: LazyLock<Vec<Name>> = LazyLock::new(|| names(&LOCAL_ZONES));
static NETWORK: LazyLock<Vec<Name>> = LazyLock::new(|| names(&NETWORK_DOMAINS));

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().filter_map(|text| Name::parse(text).ok()).collect()
}

/// See [`PORTAL_CHECKS`].
pub(super) fn is_portal_check(name: &Name) -> bool {
    CHECKS.contains(name)
}

/// Whether a name is the network's own business: the address of a single label, or in [`LOCAL_ZONES`], or in a private
/// reverse zone whose edge is inside of a label's row (172.16/12, 100.64/10). What is asked about a single label beside
/// addresses is about a top-level domain.
pub(super) fn is_local(name: &Name, kind: u16) -> bool {
    const ADDRESSES: [u16; 4] = [1, 28, 64, 65];
    let single = name.labels().count() == 1 && ADDRESSES.contains(&kind);
    single || LOCAL.iter().any(|zone| name.is_within(zone)) || is_split_reverse(name)
}

/// Whether a domain is one that a network may call itself by, without taking a public name from anybody.
pub(super) fn is_private_domain(name: &Name) -> bool {
    let within = |zones: &[Name]| zones.iter().any(|zone| name.is_within(zone));
    within(&NETWORK) || within(&LOCAL) || is_split_reverse(name)
}

fn is_split_reverse(name: &Name) -> bool {
    let labels: Vec<&[u8]> = name.labels().collect();
    let [.., second, first, b"in-addr", b"arpa"] = labels.as_slice() else {
        return false;
    };
    let number = |label: &[u8]| {
        std::str::from_utf8(label)
            .ok()
            .and_then(|text| text.parse::<u8>().ok())
    };
    match (number(first), number(second)) {
        (Some(172), Some(second)) => (16..32).contains(&second),
        (Some(100), Some(second)) => (64..128).contains(&second),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn every_name_of_the_lists_is_one() {
        let read = (CHECKS.len(), LOCAL.len(), NETWORK.len());
        assert_eq!(
            read,
            (PORTAL_CHECKS.len(), LOCAL_ZONES.len(), NETWORK_DOMAINS.len())
        );
    }

    #[test]
    fn private_reverse_zones_are_told_from_public_ones() {
        for local in [
            "1.0.0.10.in-addr.arpa",
            "1.1.16.172.in-addr.arpa",
            "31.172.in-addr.arpa",
            "9.9.127.100.in-addr.arpa",
            "1.d.f.ip6.arpa",
            "x.0.8.e.f.ip6.arpa",
            "printer",
            "printer.local",
            "nas.home.arpa",
        ] {
            assert!(is_local(&name(local), 1), "{local}");
        }
        for public in [
            "1.1.15.172.in-addr.arpa",
            "32.172.in-addr.arpa",
            "172.in-addr.arpa",
            "1.128.100.in-addr.arpa",
            "9.9.9.9.in-addr.arpa",
            "example.org",
            "local.example",
            ".",
        ] {
            assert!(!is_local(&name(public), 1), "{public}");
        }
    }

    #[test]
    fn a_network_may_call_itself_lan_and_not_com() {
        for own in ["lan", "fritz.box", "office.corp", "site.internal"] {
            assert!(is_private_domain(&name(own)), "{own}");
        }
        assert!(
            !is_local(&name("com"), 2),
            "the name servers of a top-level domain"
        );
        for public in ["com", "example.com", "company.example", "co.uk", "other.box"] {
            assert!(!is_private_domain(&name(public)), "{public}");
        }
    }
}
