//! What the system says about name servers. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dns_core::Name;

/// Who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// systemd-resolved, over its D-Bus interface.
    Resolved,
    /// NetworkManager, over its own.
    NetworkManager,
    /// A file such as `/etc/resolv.conf`.
    ResolvConf,
}

impl Source {
    /// For logs and events.
    pub fn text(self) -> &'static str {
        match self {
            Self::Resolved => "systemd-resolved",
            Self::NetworkManager => "NetworkManager",
            Self::ResolvConf => "resolv.conf",
        }
    }
}

/// A domain of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// Its name; the root means all names.
    pub name: Name,
    /// Whether it was set for routing (`~domain`), as VPN clients and administrators do; else it is a search domain, which
    /// a network may have announced.
    pub route_only: bool,
}

/// The servers and domains of one link, or of the system as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// The interface's name; empty for the system as a whole.
    pub interface: String,
    /// Whether it is a tunnel: what a VPN's server says is as good as the owner's word.
    pub tunnel: bool,
    /// Its servers, without ourselves.
    pub servers: Vec<SocketAddr>,
    /// Its domains.
    pub domains: Vec<Domain>,
    /// Whether names that belong to no domain are asked here.
    pub default_route: bool,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct System {
    /// Who said so; `None` where nobody did.
    pub source: Option<Source>,
    /// The links that have servers.
    pub links: Vec<Link>,
}

impl System {
    /// The servers of all links.
    pub fn servers(&self) -> Vec<SocketAddr> {
        self.links
            .iter()
            .flat_map(|link| link.servers.iter().copied())
            .collect()
    }

    /// Whether there is anybody to ask.
    pub fn is_empty(&self) -> bool {
        self.links.iter().all(|link| link.servers.is_empty())
    }
}

/// Whether a server is this one, so that asking it would go round in circles: where it listens, and the two addresses of
/// systemd-resolved's stub, which asks us in turn once it is told to.
pub fn is_ours(server: &SocketAddr) -> bool {
    const OURS: [IpAddr; 5] = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 17)),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 54)),
    ];
    let address = server.ip().to_canonical();
    (server.port() == 53 && OURS.contains(&address)) || address.is_unspecified()
}
