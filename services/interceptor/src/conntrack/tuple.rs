//! What names a connection: protocol, addresses, ports (or ICMP's type, code and identifier).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink::{Attributes, Builder};
use verdict::{Direction, Endpoint, Flow, Protocol};

const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;

mod address {
    pub(super) const V4_SOURCE: u16 = 1;
    pub(super) const V4_DESTINATION: u16 = 2;
    pub(super) const V6_SOURCE: u16 = 3;
    pub(super) const V6_DESTINATION: u16 = 4;
}

mod protocol {
    pub(super) const NUMBER: u16 = 1;
    pub(super) const SOURCE_PORT: u16 = 2;
    pub(super) const DESTINATION_PORT: u16 = 3;
    /// Identifier, type and code follow each other, for either family.
    pub(super) const ICMP: u16 = 4;
    pub(super) const ICMPV6: u16 = 7;
}

/// A connection's name in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// IANA number.
    pub protocol: Protocol,
    /// Sender; port 0 for ICMP.
    pub source: Endpoint,
    /// Receiver; port 0 for ICMP.
    pub destination: Endpoint,
    /// Type, code, identifier of an ICMP query.
    pub icmp: Option<(u8, u8, u16)>,
}

impl Tuple {
    /// As the opener of `flow` sends it.
    pub fn of(flow: &Flow) -> Self {
        let (source, destination) = match flow.direction {
            Direction::Outgoing => (flow.local, flow.remote),
            Direction::Incoming => (flow.remote, flow.local),
        };
        let icmp = flow.protocol.is_icmp().then(|| {
            let [kind, code] = flow.remote.port.to_be_bytes();
            (kind, code, flow.local.port)
        });
        let end = |end: Endpoint| {
            if icmp.is_some() {
                Endpoint::new(end.address, 0)
            } else {
                end
            }
        };
        Self {
            protocol: flow.protocol,
            source: end(source),
            destination: end(destination),
            icmp,
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub fn family(&self) -> u8 {
        let family = if self.source.address.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        u8::try_from(family).unwrap_or_default()
    }

    pub(super) fn parse(attributes: Attributes<'_>) -> Option<Self> {
        let ip = attributes.find(ADDRESSES)?.nested();
        let v4 = |kind| {
            ip.find(kind)?
                .u32_be()
                .map(|bits| IpAddr::from(Ipv4Addr::from(bits)))
        };
        let v6 = |kind| {
            ip.find(kind)?
                .payload
                .first_chunk::<16>()
                .map(|octets| IpAddr::from(Ipv6Addr::from(*octets)))
        };
        let source = v4(address::V4_SOURCE).or_else(|| v6(address::V6_SOURCE))?;
        let destination = v4(address::V4_DESTINATION).or_else(|| v6(address::V6_DESTINATION))?;
        let inner = attributes.find(PROTOCOL)?.nested();
        let number = Protocol(inner.find(protocol::NUMBER)?.u8()?);
        let port = |kind| {
            inner
                .find(kind)
                .and_then(|attribute| attribute.u16_be())
                .unwrap_or(0)
        };
        let icmp = icmp_attributes(number).and_then(|first| {
            let octet = |kind| inner.find(kind)?.u8();
            Some((octet(first + 1)?, octet(first + 2)?, inner.find(first)?.u16_be()?))
        });
        Some(Self {
            protocol: number,
            source: Endpoint::new(source, port(protocol::SOURCE_PORT)),
            destination: Endpoint::new(destination, port(protocol::DESTINATION_PORT)),
            icmp,
        })
    }

    pub(super) fn write(&self, message: &mut Builder, kind: u16) {
        message.nested(kind, |tuple| {
            tuple.nested(ADDRESSES, |ip| self.write_addresses(ip));
            tuple.nested(PROTOCOL, |inner| self.write_protocol(inner));
        });
    }

    fn write_addresses(&self, ip: &mut Builder) {
        match (self.source.address, self.destination.address) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ip.attribute(address::V4_SOURCE, &source.octets());
                ip.attribute(address::V4_DESTINATION, &destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ip.attribute(address::V6_SOURCE, &source.octets());
                ip.attribute(address::V6_DESTINATION, &destination.octets());
            }
            // no packet has two families; the kernel refuses a tuple without addresses
            _ => {}
        }
    }

    fn write_protocol(&self, inner: &mut Builder) {
        inner.attribute(protocol::NUMBER, &[self.protocol.0]);
        match (self.icmp, icmp_attributes(self.protocol)) {
            (Some((kind, code, identifier)), Some(first)) => {
                inner.attribute(first, &identifier.to_be_bytes());
                inner.attribute(first + 1, &[kind]).attribute(first + 2, &[code]);
            }
            _ if self.protocol.has_ports() => {
                inner.attribute(protocol::SOURCE_PORT, &self.source.port.to_be_bytes());
                inner.attribute(protocol::DESTINATION_PORT, &self.destination.port.to_be_bytes());
            }
            _ => {}
        }
    }
}

fn icmp_attributes(number: Protocol) -> Option<u16> {
    match number {
        Protocol::ICMP => Some(protocol::ICMP),
        Protocol::ICMPV6 => Some(protocol::ICMPV6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(tuple: &Tuple) -> Option<Tuple> {
        let mut message = Builder::new();
        message.begin(0, 0, 0);
        tuple.write(&mut message, 1);
        message.end();
        let bytes = message.as_bytes().to_vec();
        let parsed = netlink::Messages::new(&bytes).next()?;
        Tuple::parse(Attributes::new(parsed.payload).find(1)?.nested())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            a: [u8; 16], b: [u8; 16], v4: bool, ports: (u16, u16),
            protocol in prop_oneof![Just(1_u8), Just(6), Just(17), Just(47), Just(58), Just(132)], incoming: bool,
        ) {
            let address = |octets: [u8; 16]| if v4 {
                IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
            } else {
                let mut octets = octets;
                octets[0] = 0x20; // never v4-mapped
                IpAddr::from(octets)
            };
            let protocol = Protocol(protocol);
            let ports = if protocol.has_ports() || protocol.is_icmp() { ports } else { (0, 0) };
            let flow = Flow {
                direction: if incoming { Direction::Incoming } else { Direction::Outgoing },
                protocol,
                local: Endpoint::new(address(a), ports.0),
                remote: Endpoint::new(address(b), ports.1),
            };
            let tuple = Tuple::of(&flow);
            prop_assert_eq!(round_trip(&tuple), Some(tuple));
            prop_assert_eq!(super::super::flow_of(&tuple, flow.direction), flow);
        }

        #[test]
        fn parsing_is_total(bytes: Vec<u8>) {
            let _ = Tuple::parse(Attributes::new(&bytes));
        }
    }
}
