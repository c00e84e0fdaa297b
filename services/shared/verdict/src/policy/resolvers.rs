//! Resolvers that others run and that speak encrypted DNS: the shipped list, and what the owner adds.

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use ipnet::IpNet;

const SHIPPED: &str = include_str!("defaults/resolvers.txt");

/// One of them, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolver {
    /// An address (full length), or a network.
    Network(IpNet),
    /// This name and all below it; lower case, no closing dot.
    Name(String),
}

impl Resolver {
    /// An address, a network as `address/length`, or a name of at least two labels; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        if let Ok(network) = address.or_else(|_| text.parse::<IpNet>()) {
            return Some(Self::Network(network.trunc()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
        };
        let is_name = name.len() <= 253 && name.contains('.') && name.split('.').all(fits);
        // an address with a slip of the pen is no name: no top-level domain is a number
        let is_number = name
            .rsplit('.')
            .next()
            .is_some_and(|label| label.bytes().all(|octet| octet.is_ascii_digit()));
        (is_name && !is_number).then_some(Self::Name(name))
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Network(network) => network.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// All of them, ready to be asked for every flow.
#[derive(Clone, Debug)]
pub(super) struct Resolvers {
    shipped: Arc<Known>,
    own: Known,
}

#[derive(Debug, Default, Clone)]
struct Known {
    addresses: HashSet<IpAddr>,
    networks: Vec<IpNet>,
    names: HashSet<String>,
}

impl Resolvers {
    /// The shipped ones and these.
    pub(super) fn new(own: &[Resolver]) -> Self {
        static KNOWN: OnceLock<Arc<Known>> = OnceLock::new();
        Self {
            shipped: Arc::clone(KNOWN.get_or_init(|| Arc::new(shipped().collect()))),
            own: own.iter().cloned().collect(),
        }
    }

    /// Whether this address is one of theirs.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.shipped.has_address(address) || self.own.has_address(address)
    }

    /// Whether this name is one of theirs. Lower case, no closing dot.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.shipped.has_name(name) || self.own.has_name(name)
    }
}

/// Lines that are none are left out; a test sees that there are none.
fn shipped() -> impl Iterator<Item = Resolver> {
    lines().filter_map(Resolver::parse)
}

fn lines() -> impl Iterator<Item = &'static str> {
    let lines = SHIPPED.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

impl FromIterator<Resolver> for Known {
    fn from_iter<T: IntoIterator<Item = Resolver>>(resolvers: T) -> Self {
        let mut known = Self::default();
        for resolver in resolvers {
            match resolver {
                Resolver::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                    known.addresses.insert(network.addr());
                }
                Resolver::Network(network) => known.networks.push(network),
                Resolver::Name(name) => {
                    known.names.insert(name);
                }
            }
        }
        known
    }
}

impl Known {
    fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.networks.iter().any(|network| network.contains(&address))
    }

    fn has_name(&self, name: &str) -> bool {
        let mut rest = Some(name);
        while let Some(zone) = rest {
            if self.names.contains(zone) {
                return true;
            }
            rest = zone.split_once('.').map(|(_, above)| above);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(
            text in prop_oneof![any::<String>(), "[0-9a-fA-F:./_-]{0,40}", "[a-z0-9.-]{1,70}\\.[a-z0-9]{1,6}\\.?"],
        ) {
            if let Some(resolver) = Resolver::parse(&text) {
                prop_assert_eq!(Resolver::parse(&resolver.to_string()), Some(resolver));
            }
        }

        #[test]
        fn a_name_stands_for_what_is_below_it_and_nothing_else(below in "[a-z0-9-]{1,10}") {
            let resolvers = Resolvers::new(&[]);
            let dotted = format!("{below}.dns.google");
            let glued = format!("{below}dns.google");
            prop_assert!(resolvers.has_name(&dotted));
            prop_assert!(!resolvers.has_name(&glued));
        }
    }

    #[test]
    fn every_shipped_line_is_a_resolver_and_stands_once() {
        let mut seen = HashSet::new();
        for line in lines() {
            let resolver = Resolver::parse(line).unwrap_or_else(|| panic!("{line}"));
            assert!(seen.insert(resolver.to_string()), "{line} twice");
        }
        assert!(seen.len() > 150);
    }

    #[test]
    fn they_are_found_by_address_network_and_name() {
        let own = ["192.0.2.0/24", "dns.corp.example."].map(|text| Resolver::parse(text).unwrap());
        let resolvers = Resolvers::new(&own);
        for address in ["9.9.9.9", "2620:fe::fe", "45.90.28.17", "192.0.2.200"] {
            assert!(resolvers.has_address(address.parse().unwrap()), "{address}");
        }
        for address in ["9.9.9.8", "192.0.3.1", "2620:fe::1234"] {
            assert!(!resolvers.has_address(address.parse().unwrap()), "{address}");
        }
        for name in ["dns.google", "a1b2c3.dns.nextdns.io", "dns.corp.example"] {
            assert!(resolvers.has_name(name), "{name}");
        }
        for name in ["google", "notdns.google", "www.google.com", "corp.example", ""] {
            assert!(!resolvers.has_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_neither_address_nor_name_is_none() {
        for text in [
            "",
            "localhost",
            "999.1.1.1",
            "1.1.1",
            "a b.example",
            "*.example",
            "10.0.0.0/33",
            "https://dns.google/",
        ] {
            assert_eq!(Resolver::parse(text), None, "{text}");
        }
        assert_eq!(Resolver::parse("10.1.2.3/8").unwrap().to_string(), "10.0.0.0/8");
    }
}
