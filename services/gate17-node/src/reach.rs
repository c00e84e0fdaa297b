//! Where connections may go: the node's own rules, and what no rule opens by the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gate17_proto::map::ExitRule;
use ipnet::IpNet;

/// An [`ExitRule`], read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    allow: bool,
    /// None: anywhere.
    to: Option<IpNet>,
    /// Empty: all.
    ports: Vec<(u16, u16)>,
}

impl Rule {
    /// None where it cannot be read.
    pub fn new(rule: &ExitRule) -> Option<Self> {
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
            "*" => Vec::new(),
            text => text.split(',').map(range).collect::<Option<_>>()?,
        };
        Some(Self {
            allow: rule.allow,
            to,
            ports,
        })
    }

    fn matches(&self, to: IpAddr, port: u16) -> bool {
        self.to.is_none_or(|net| net.contains(&to))
            && (self.ports.is_empty()
                || self
                    .ports
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&port)))
    }
}

/// Whether `rules` let a connection go there. The first that matches decides. A rule for anywhere never means addresses
/// that are not of the internet, nor mail's port without naming it.
pub fn allows(rules: &[Rule], to: IpAddr, port: u16) -> bool {
    let to = to.to_canonical();
    if port == 0 || is_nowhere(to) {
        return false;
    }
    let Some(rule) = rules.iter().find(|rule| rule.matches(to, port)) else {
        return false;
    };
    rule.allow && (rule.to.is_some() || is_global(to)) && (port != SMTP || !rule.ports.is_empty())
}

const SMTP: u16 = 25;

/// No rule opens these.
fn is_nowhere(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => {
            to.is_loopback()
                || to.is_multicast()
                || to.is_link_local()
                || to.octets()[0] == 0
                || to.octets()[0] >= 240
        }
        IpAddr::V6(to) => {
            to.is_loopback() || to.is_multicast() || to.is_unspecified() || to.is_unicast_link_local()
        }
    }
}

/// Of the internet (IANA special-purpose registries, as far as they say "not globally reachable").
fn is_global(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => is_global_v4(to),
        IpAddr::V6(to) => is_global_v6(to),
    }
}

fn is_global_v4(to: Ipv4Addr) -> bool {
    let [first, second, third, _] = to.octets();
    let is_shared = first == 100 && (64..128).contains(&second);
    let is_benchmark = first == 198 && (second == 18 || second == 19);
    let is_protocol = first == 192 && second == 0 && third == 0;
    !(to.is_private() || to.is_documentation() || is_shared || is_benchmark || is_protocol)
}

fn is_global_v6(to: Ipv6Addr) -> bool {
    let [first, second, ..] = to.segments();
    match first {
        // NAT64 and 6to4 carry any address of IPv4: what they carry is not looked at
        0x64 | 0x2002 => false,
        // Teredo, benchmarks, ORCHID, documentation
        0x2001 => second > 0x01ff && second != 0x0db8,
        0x3fff => second > 0x0fff,
        _ => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(of: &[(bool, &str, &str)]) -> Vec<Rule> {
        let rule = |(allow, to, ports): &(bool, &str, &str)| {
            Rule::new(&ExitRule {
                allow: *allow,
                to: (*to).to_owned(),
                ports: (*ports).to_owned(),
            })
            .unwrap()
        };
        of.iter().map(rule).collect()
    }

    #[test]
    fn anywhere_is_the_internet_and_without_mail() {
        let open = rules(&[(true, "*", "*")]);
        for (to, port, allowed) in [
            ("9.9.9.9", 443, true),
            ("2620:fe::fe", 443, true),
            ("::ffff:10.0.0.1", 443, false),
            ("9.9.9.9", 25, false),
            ("9.9.9.9", 0, false),
            ("10.1.2.3", 80, false),
            ("192.168.1.1", 80, false),
            ("100.64.0.1", 80, false),
            ("169.254.169.254", 80, false),
            ("127.0.0.1", 80, false),
            ("0.0.0.0", 80, false),
            ("224.0.0.1", 80, false),
            ("::1", 80, false),
            ("fd00::1", 80, false),
            ("fe80::1", 80, false),
            ("64:ff9b::a00:1", 80, false),
            ("2002:a00:1::", 80, false),
            ("2001:db8::1", 80, false),
        ] {
            assert_eq!(allows(&open, to.parse().unwrap(), port), allowed, "{to} {port}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_a_named_network_is_meant() {
        let some = rules(&[
            (false, "10.1.0.0/16", "*"),
            (true, "10.0.0.0/8", "80,8000-8999"),
            (true, "127.0.0.0/8", "*"),
            (true, "*", "25"),
        ]);
        for (to, port, allowed) in [
            ("10.2.0.1", 80, true),
            ("10.2.0.1", 8500, true),
            ("10.2.0.1", 81, false),
            ("10.1.0.1", 80, false),
            // never, whatever a rule says
            ("127.0.0.1", 80, false),
            ("9.9.9.9", 25, true),
            ("9.9.9.9", 80, false),
        ] {
            assert_eq!(allows(&some, to.parse().unwrap(), port), allowed, "{to} {port}");
        }
        assert!(!allows(&[], "9.9.9.9".parse().unwrap(), 443));
    }

    #[test]
    fn what_cannot_be_read_is_no_rule() {
        for (to, ports) in [
            ("10.0.0.0/33", "*"),
            ("host", "*"),
            ("*", "90-80"),
            ("*", "x"),
            ("*", ""),
        ] {
            let rule = ExitRule {
                allow: true,
                to: to.to_owned(),
                ports: ports.to_owned(),
            };
            assert_eq!(Rule::new(&rule), None, "{to} {ports}");
        }
    }
}
