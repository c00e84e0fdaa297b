//! Where an exit carries to: its rules, and what no rule opens by the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::map::{ExitRule, Node};

/// Mail, which is refused unless a rule names the port.
const SMTP: u16 = 25;

/// What carries a destination's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// CONNECT.
    Tcp,
    /// connect-udp.
    Udp,
}

/// Rules, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitPolicy {
    rules: Vec<Rule>,
    own: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// None: anywhere.
    to: Option<IpNet>,
    /// None: all.
    ports: Option<Vec<(u16, u16)>>,
}

/// Why not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// By a rule, or by none that matches.
    #[error("no rule of the exit allows that destination: choose another exit")]
    Rule,
    /// Not of the internet, and no rule names it.
    #[error("the destination is not of the internet: have a rule of the exit name its network")]
    NotGlobal,
    /// One of the node's own.
    #[error("the destination is the exit itself: have a rule of the exit name its address")]
    Own,
    /// Port 25, and no rule names it.
    #[error("mail's port is refused: have a rule of the exit name it")]
    Mail,
    /// Nobody is there: port 0, multicast, unspecified.
    #[error("the destination is no host's port")]
    Nowhere,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "exit rule for {to:?}, ports {ports:?} cannot be read: write * or a network, and * or ports as 80,443,8000-8999"
)]
pub struct BadRule {
    to: String,
    ports: String,
}

impl ExitPolicy {
    /// As the map has it of a node.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of(node: &Node) -> Result<Self, BadRule> {
        Self::new(&node.exit, node.addresses.iter().map(|at| at.address).collect())
    }

    /// Of `rules`, on a node that has the addresses `own`.
    ///
    /// # Errors
    /// [`BadRule`], the first.
    pub fn new(rules: &[ExitRule], own: Vec<IpAddr>) -> Result<Self, BadRule> {
        let read = |rule: &ExitRule| {
            Rule::read(rule).ok_or_else(|| BadRule {
                to: rule.to.clone(),
                ports: rule.ports.clone(),
            })
        };
        let rules = rules.iter().map(read).collect::<Result<_, _>>()?;
        let own = own.into_iter().map(|own| own.to_canonical()).collect();
        Ok(Self { rules, own })
    }

    /// Whether a stream may go there. The first rule that matches decides; one for anywhere means the internet.
    ///
    /// # Errors
    /// [`Denied`]
    pub fn check(&self, to: IpAddr, port: u16, transport: Transport) -> Result<(), Denied> {
        let to = to.to_canonical();
        if port == 0 || to.is_unspecified() || to.is_multicast() || to == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(Denied::Nowhere);
        }
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.matches(to, port))
            .ok_or(Denied::Rule)?;
        if !rule.allow {
            return Err(Denied::Rule);
        }
        if transport == Transport::Tcp && port == SMTP && !rule.names(port) {
            return Err(Denied::Mail);
        }
        // a rule opens what is not of the internet only where all of its network is not: ::/0 names nobody
        let named = rule.to.is_some_and(|net| {
            !is_global(net.network()) && !is_global(net.broadcast()) && net.prefix_len() >= 7
        });
        if self.own.contains(&to)
            && !rule
                .to
                .is_some_and(|net| net.addr() == to && net.prefix_len() == net.max_prefix_len())
        {
            return Err(Denied::Own);
        }
        if is_global(to) || named {
            Ok(())
        } else {
            Err(Denied::NotGlobal)
        }
    }

    /// Whether it carries anywhere.
    pub fn is_exit(&self) -> bool {
        self.rules.iter().any(|rule| rule.allow)
    }
}

impl Rule {
    fn read(rule: &ExitRule) -> Option<Self> {
        let to = match rule.to.as_str() {
            "*" => None,
            text => Some(
                text.parse()
                    .ok()
                    .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?,
            ),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ports = match rule.ports.as_str() {
            "*" => None,
            text => Some(text.split(',').map(range).collect::<Option<_>>()?),
        };
        Some(Self {
            allow: rule.allow,
            to,
            ports,
        })
    }

    fn matches(&self, to: IpAddr, port: u16) -> bool {
        let within = |(first, last): &(u16, u16)| (*first..=*last).contains(&port);
        self.to.is_none_or(|net| net.contains(&to))
            && self.ports.as_ref().is_none_or(|ports| ports.iter().any(within))
    }

    fn names(&self, port: u16) -> bool {
        self.ports
            .as_ref()
            .is_some_and(|ports| ports.contains(&(port, port)))
    }
}

/// Whether an address is one of the internet (RFC 6890 and the registries that it names).
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let reserved = match (first, second, third) {
        (0 | 10 | 127 | 224.., ..) => true,
        // shared by carriers (RFC 6598); benchmarks (RFC 2544)
        (100, 64..=127, _) | (198, 18 | 19, _) | (169, 254, _) | (172, 16..=31, _) | (192, 168, _) => true,
        (192, 0, 0) => true,
        // documents (RFC 5737)
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => true,
        _ => false,
    };
    !reserved
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| is_global_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        // NAT64 (RFC 6052), 6to4 (RFC 3056): the address within is whom it reaches
        (0x64, 0xff9b) => (c, d, e, f) == (0, 0, 0, 0) && v4(g, h),
        (0x2002, high) => v4(high, c),
        // Teredo, ORCHID, documents and other purposes (RFC 2928, 3849)
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // documents (RFC 9637)
        (0x3fff, 0..=0xfff) => false,
        // what is handed out is within 2000::/3
        _ => a >> 13 == 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(rules: &[(bool, &str, &str)]) -> ExitPolicy {
        let rule = |(allow, to, ports): &(bool, &str, &str)| ExitRule {
            allow: *allow,
            to: (*to).into(),
            ports: (*ports).into(),
        };
        let rules: Vec<_> = rules.iter().map(rule).collect();
        ExitPolicy::new(&rules, vec!["1.2.3.4".parse().unwrap()]).unwrap()
    }

    fn tcp(policy: &ExitPolicy, to: &str, port: u16) -> Result<(), Denied> {
        policy.check(to.parse().unwrap(), port, Transport::Tcp)
    }

    #[test]
    fn anywhere_is_the_internet() {
        for anywhere in ["*", "0.0.0.0/0", "::/0", "0.0.0.0/1"] {
            let policy = policy(&[(true, anywhere, "*"), (true, "*", "*")]);
            assert_eq!(tcp(&policy, "8.8.8.8", 443), Ok(()));
            assert_eq!(tcp(&policy, "2606:4700::1111", 443), Ok(()));
            for inside in [
                "127.0.0.1",
                "10.0.0.1",
                "192.168.1.1",
                "172.20.0.1",
                "169.254.169.254",
                "100.64.0.1",
                "::1",
                "fe80::1",
                "fd00::1",
                "::ffff:10.0.0.1",
                "2002:a00:1::1",
                "64:ff9b::a00:1",
                "64:ff9b:1::1",
                "192.0.2.1",
                "2001:db8::1",
                "240.0.0.1",
                "::127.0.0.1",
            ] {
                assert_eq!(
                    tcp(&policy, inside, 80),
                    Err(Denied::NotGlobal),
                    "{anywhere} {inside}"
                );
            }
            assert_eq!(tcp(&policy, "1.2.3.4", 80), Err(Denied::Own));
            assert_eq!(tcp(&policy, "8.8.8.8", 25), Err(Denied::Mail));
            assert_eq!(
                policy.check("8.8.8.8".parse().unwrap(), 25, Transport::Udp),
                Ok(())
            );
            for nowhere in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
                assert_eq!(tcp(&policy, nowhere, 80), Err(Denied::Nowhere), "{nowhere}");
            }
        }
    }

    #[test]
    fn what_a_rule_names_is_opened_and_the_first_decides() {
        let policy = policy(&[
            (false, "10.9.0.0/16", "*"),
            (true, "10.0.0.0/8", "22,8000-8999"),
            (true, "1.2.3.4", "80"),
            (true, "9.9.9.9", "25"),
        ]);
        assert_eq!(tcp(&policy, "10.1.1.1", 8080), Ok(()));
        assert_eq!(tcp(&policy, "10.9.1.1", 8080), Err(Denied::Rule));
        assert_eq!(tcp(&policy, "10.1.1.1", 80), Err(Denied::Rule));
        assert_eq!(tcp(&policy, "1.2.3.4", 80), Ok(()));
        assert_eq!(tcp(&policy, "9.9.9.9", 25), Ok(()));
        assert_eq!(tcp(&ExitPolicy::default(), "8.8.8.8", 80), Err(Denied::Rule));
    }

    proptest! {
        #[test]
        fn a_rule_for_anywhere_never_opens_the_inside(octets: [u8; 16], port: u16, short: bool) {
            let to = if short { IpAddr::from([octets[0], octets[1], octets[2], octets[3]]) } else { IpAddr::from(octets) };
            let allowed = policy(&[(true, "*", "*")]).check(to, port, Transport::Tcp).is_ok();
            prop_assert!(!allowed || is_global(to));
        }
    }
}
