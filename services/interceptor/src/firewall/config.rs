//! Section `[firewall]` of `interceptor.toml`.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};

use daemon::Unfit;
use serde::Deserialize;
use verdict::{
    mark::MarkScheme,
    ruleset::{Local, Options, RejectTcpWith},
};

use super::Error;

/// What the owner can choose about the rules. Every key has a default.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which of the kernel's two packet filters holds the rules.
    pub backend: BackendChoice,
    /// How a blocked TCP connection fails.
    pub reject_tcp_with: RejectTcp,
    /// Packets of allowed connections keep the marks that others put on them (policy routing, VPNs).
    pub keep_foreign_marks: bool,
    /// Where IPv4 queries that strayed past the local DNS server go.
    pub dns_v4: SocketAddrV4,
    /// The same for IPv6.
    pub dns_v6: SocketAddrV6,
    /// Where IPv4 connections for Gate17 go.
    pub gate17_v4: SocketAddrV4,
    /// The same for IPv6.
    pub gate17_v6: SocketAddrV6,
    /// A host without IPv6 has a route of the last resort for it, to itself: so that what is tunnelled reaches IPv6 all the same.
    pub ipv6_route: bool,
}

/// Setting `backend`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The one that this host's `iptables` uses.
    #[default]
    Auto,
    /// nf_tables.
    Nft,
    /// x_tables.
    Legacy,
}

/// Setting `reject_tcp_with`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RejectTcp {
    /// An ICMP error, as everything else: says "prohibited" instead of "refused", but not always at once, and not to open
    /// connections.
    Icmp,
    /// A reset.
    #[default]
    Reset,
}

impl Default for Config {
    fn default() -> Self {
        let Options {
            keep_foreign_marks,
            dns,
            gate17,
            ipv6_route,
            ..
        } = Options::default();
        Self {
            backend: BackendChoice::default(),
            reject_tcp_with: RejectTcp::default(),
            keep_foreign_marks,
            dns_v4: dns.v4,
            dns_v6: dns.v6,
            gate17_v4: gate17.v4,
            gate17_v6: gate17.v6,
            ipv6_route,
        }
    }
}

impl Config {
    /// By key: see [`Self::options`].
    pub(crate) fn check(&self, scheme: MarkScheme) -> Result<(), Unfit> {
        let ports = [
            (&["firewall.dns_v4"], self.dns_v4.port()),
            (&["firewall.dns_v6"], self.dns_v6.port()),
            (&["firewall.gate17_v4"], self.gate17_v4.port()),
            (&["firewall.gate17_v6"], self.gate17_v6.port()),
        ];
        if let Some((key, _)) = ports.iter().find(|(_, port)| *port == 0) {
            return Err(Unfit::new(
                *key,
                "nothing can be redirected to port 0; give another",
            ));
        }
        match self.options(scheme) {
            Err(Error::NotLocal { setting, address }) => {
                let keys = ports.iter().map(|(key, _)| *key);
                let key = keys
                    .into_iter()
                    .find(|key| key.iter().any(|key| key.ends_with(setting)));
                Err(Unfit::new(
                    key.map_or(&["firewall"], |key| key),
                    format!("{address} is not an address of this host alone; give one of 127.0.0.0/8 or ::1"),
                ))
            }
            Err(other) => Err(Unfit::new(&["firewall"], other.to_string())),
            Ok(_) => Ok(()),
        }
    }

    /// Errors where something would be redirected to another host: the rules' guard drops all that leaves.
    pub(super) fn options(&self, scheme: MarkScheme) -> Result<Options, Error> {
        local("dns_v4", self.dns_v4.ip().to_owned().into())?;
        local("dns_v6", self.dns_v6.ip().to_owned().into())?;
        local("gate17_v4", self.gate17_v4.ip().to_owned().into())?;
        local("gate17_v6", self.gate17_v6.ip().to_owned().into())?;
        Ok(Options {
            scheme,
            reject_tcp_with: match self.reject_tcp_with {
                RejectTcp::Icmp => RejectTcpWith::Icmp,
                RejectTcp::Reset => RejectTcpWith::Reset,
            },
            keep_foreign_marks: self.keep_foreign_marks,
            dns: Local {
                v4: self.dns_v4,
                v6: self.dns_v6,
            },
            gate17: Local {
                v4: self.gate17_v4,
                v6: self.gate17_v6,
            },
            ipv6_route: self.ipv6_route,
        })
    }
}

fn local(setting: &'static str, address: IpAddr) -> Result<(), Error> {
    if address.is_loopback() {
        Ok(())
    } else {
        Err(Error::NotLocal { setting, address })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_redirect_to_another_host_is_refused() {
        let config = Config {
            gate17_v4: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 717),
            ..Config::default()
        };
        let error = config.options(MarkScheme::default()).unwrap_err().to_string();
        assert!(error.contains("firewall.gate17_v4: 10.0.0.1"), "{error}");
        let config = Config {
            dns_v6: SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 53, 0, 0),
            ..Config::default()
        };
        assert!(config.options(MarkScheme::default()).is_err());
        assert_eq!(
            Config::default().options(MarkScheme::default()).unwrap(),
            Options::default()
        );
    }
}
