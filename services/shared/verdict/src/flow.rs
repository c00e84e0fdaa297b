//! A flow: who talks to whom, seen from this host.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A program on this host.
    Outgoing,
    /// Somebody else, towards this host.
    Incoming,
}

impl Direction {
    /// Stable text: `out` or `in`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Outgoing => "out",
            Self::Incoming => "in",
        }
    }
}

/// IANA protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP, RFC 792.
    pub const ICMP: Self = Self(1);
    /// TCP, RFC 9293.
    pub const TCP: Self = Self(6);
    /// UDP, RFC 768.
    pub const UDP: Self = Self(17);
    /// DCCP, RFC 4340.
    pub const DCCP: Self = Self(33);
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: Self = Self(58);
    /// SCTP, RFC 9260.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite, RFC 3828.
    pub const UDPLITE: Self = Self(136);

    const NAMES: [(Self, &'static str); 14] = [
        (Self::ICMP, "icmp"),
        (Self(2), "igmp"),
        (Self(4), "ipip"),
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::DCCP, "dccp"),
        (Self(41), "ipv6"),
        (Self(47), "gre"),
        (Self(50), "esp"),
        (Self(51), "ah"),
        (Self::ICMPV6, "icmpv6"),
        (Self(112), "vrrp"),
        (Self::SCTP, "sctp"),
        (Self::UDPLITE, "udplite"),
    ];

    /// The protocol's name in lower case (`tcp`), if it has one here.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES
            .iter()
            .find(|(protocol, _)| *protocol == self)
            .map(|(_, name)| *name)
    }

    /// By name (`tcp`) or number (`6`).
    pub fn parse(text: &str) -> Option<Self> {
        let named = Self::NAMES
            .iter()
            .find(|(_, name)| name.eq_ignore_ascii_case(text));
        named
            .map(|(protocol, _)| *protocol)
            .or_else(|| text.parse().ok().map(Self))
    }

    /// The first four octets of its header are two ports.
    pub const fn has_ports(self) -> bool {
        matches!(
            self,
            Self::TCP | Self::UDP | Self::DCCP | Self::SCTP | Self::UDPLITE
        )
    }

    /// ICMP of either family.
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// Mark 1717 redirects only these: nothing else can be carried by the tunnel's entry.
    pub const fn can_be_tunnelled(self) -> bool {
        matches!(self, Self::TCP | Self::UDP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "protocol {}", self.0),
        }
    }
}

/// One end of a flow. What `port` holds depends on the protocol: see [`Flow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Never a v4-mapped IPv6 address.
    pub address: IpAddr,
    /// Port, ICMP identifier, ICMP type and code, or 0.
    pub port: u16,
}

impl Endpoint {
    /// `address` is unmapped where it is a v4-mapped IPv6 address.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address: address.to_canonical(),
            port,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, 0) => write!(f, "{address}"),
            (IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
        }
    }
}

/// A flow's key: all packets of one connection, both ways, have the same.
///
/// | protocol | `local.port` | `remote.port` |
/// |---|---|---|
/// | TCP, UDP, UDP-Lite, SCTP, DCCP | local port | remote port |
/// | ICMP, ICMPv6 queries (echo, …) | identifier | request's type × 256 + code |
/// | ICMP, ICMPv6 others | 0 | type × 256 + code |
/// | all others | 0 | 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Who opened it.
    pub direction: Direction,
    /// What it speaks.
    pub protocol: Protocol,
    /// This host's end.
    pub local: Endpoint,
    /// The other end (on this host too, for loopback connections).
    pub remote: Endpoint,
}

impl Flow {
    /// Where the remote end is. A loopback remote, and this host talking to one of its own addresses, is localhost.
    pub fn scope(&self) -> Scope {
        if self.local.address == self.remote.address {
            return Scope::Localhost;
        }
        Scope::of(self.remote.address)
    }

    /// ICMP type, where the protocol is ICMP or ICMPv6.
    pub fn icmp_type(&self) -> Option<u8> {
        self.protocol.is_icmp().then(|| self.remote.port.to_be_bytes()[0])
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction {
            Direction::Outgoing => "→",
            Direction::Incoming => "←",
        };
        write!(f, "{} {} {arrow} {}", self.protocol, self.local, self.remote)
    }
}

/// Where an address is, as the owner thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This host.
    Localhost,
    /// Private, link-local and unique-local networks, and the limited broadcast.
    Lan,
    /// All the rest.
    Internet,
    /// Multicast groups of either family.
    Multicast,
}

impl Scope {
    /// By address alone (RFC 1122, 1918, 3927, 4193, 4291, 6598).
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let shared = address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64; // RFC 6598, carrier-grade NAT
        if address.is_loopback() || address.is_unspecified() {
            Self::Localhost
        } else if address.is_multicast() {
            Self::Multicast
        } else if address.is_private() || address.is_link_local() || address.is_broadcast() || shared {
            Self::Lan
        } else {
            Self::Internet
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() || address.is_unspecified() {
            Self::Localhost
        } else if address.is_multicast() {
            Self::Multicast
        } else if address.is_unicast_link_local() || address.is_unique_local() {
            Self::Lan
        } else {
            Self::Internet
        }
    }

    /// Stable text, as in rules: `localhost`, `lan`, `internet`, `multicast`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Localhost => "localhost",
            Self::Lan => "lan",
            Self::Internet => "internet",
            Self::Multicast => "multicast",
        }
    }

    /// By its stable text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Localhost, Self::Lan, Self::Internet, Self::Multicast]
            .into_iter()
            .find(|scope| scope.text() == text)
    }
}
