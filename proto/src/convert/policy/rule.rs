//! Rules.

use std::{ops::RangeInclusive, time::SystemTime};

use ipnet::IpNet;
use verdict::{
    Direction, Protocol, Scope,
    policy::model::{Remote, Rule},
};

use crate::{
    convert::{Error, address, each, narrow, octets, optional_word, word},
    flow::v1 as flow,
    policy::v1::{self, remote::Kind},
};

impl From<&Rule> for v1::Rule {
    fn from(rule: &Rule) -> Self {
        Self {
            source: rule.source.to_string(),
            action: v1::Action::from(rule.action).into(),
            direction: rule
                .direction
                .map_or(flow::Direction::Unspecified, Into::into)
                .into(),
            protocols: rule.protocols.iter().map(|protocol| protocol.0.into()).collect(),
            remotes: rule.remotes.iter().map(Into::into).collect(),
            remote_ports: rule.remote_ports.iter().map(port_range).collect(),
            local_ports: rule.local_ports.iter().map(port_range).collect(),
            icmp_types: rule.icmp_types.iter().copied().map(Into::into).collect(),
            uids: rule.uids.clone(),
            expires: rule.expires.map(Into::into),
            note: rule.note.clone(),
        }
    }
}

impl TryFrom<v1::Rule> for Rule {
    type Error = Error;

    fn try_from(wire: v1::Rule) -> Result<Self, Error> {
        let octet = |field, value| narrow::<u8>(field, value, "at most 255");
        let protocols = wire.protocols.into_iter();
        let icmp_types = wire.icmp_types.into_iter();
        Ok(Self {
            source: wire.source.into(),
            action: word::<v1::Action, _>("action", wire.action)?,
            direction: optional_word::<flow::Direction, Direction>("direction", wire.direction)?,
            protocols: protocols
                .map(|number| octet("protocols", number).map(Protocol))
                .collect::<Result<_, _>>()?,
            remotes: each("remotes", wire.remotes)?,
            remote_ports: each("remote_ports", wire.remote_ports)?,
            local_ports: each("local_ports", wire.local_ports)?,
            icmp_types: icmp_types
                .map(|number| octet("icmp_types", number))
                .collect::<Result<_, _>>()?,
            uids: wire.uids,
            expires: wire.expires.map(time).transpose()?,
            note: wire.note,
        })
    }
}

fn time(wire: prost_types::Timestamp) -> Result<SystemTime, Error> {
    SystemTime::try_from(wire)
        .map_err(|error| Error::invalid("expires", error, "a time that this host can tell"))
}

fn port_range(range: &RangeInclusive<u16>) -> v1::PortRange {
    v1::PortRange {
        first: (*range.start()).into(),
        last: (*range.end()).into(),
    }
}

impl TryFrom<v1::PortRange> for RangeInclusive<u16> {
    type Error = Error;

    fn try_from(wire: v1::PortRange) -> Result<Self, Error> {
        let port = |field, value| narrow::<u16>(field, value, "at most 65535");
        let (first, last) = (port("first", wire.first)?, port("last", wire.last)?);
        if first > last {
            return Err(Error::invalid("last", last, "at least first"));
        }
        Ok(first..=last)
    }
}

impl From<&Remote> for v1::Remote {
    fn from(remote: &Remote) -> Self {
        let kind = match remote {
            Remote::Network(network) => Kind::Network(v1::remote::Network {
                address: octets(network.addr()),
                prefix_length: network.prefix_len().into(),
            }),
            Remote::Range(first, last) => Kind::Range(v1::remote::AddressRange {
                first: octets(*first),
                last: octets(*last),
            }),
            Remote::Scope(scope) => Kind::Scope(flow::Scope::from(*scope).into()),
            Remote::Domain(name) => Kind::Domain(name.clone()),
            Remote::Zone(name) => Kind::Zone(name.clone()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Remote> for Remote {
    type Error = Error;

    fn try_from(wire: v1::Remote) -> Result<Self, Error> {
        match wire.kind.ok_or_else(|| Error::missing("kind"))? {
            Kind::Network(network) => network_of(&network).map(Self::Network),
            Kind::Range(range) => range_of(&range),
            Kind::Scope(scope) => word::<flow::Scope, Scope>("scope", scope).map(Self::Scope),
            Kind::Domain(name) => domain("domain", name).map(Self::Domain),
            Kind::Zone(name) => domain("zone", name).map(Self::Zone),
        }
    }
}

fn network_of(wire: &v1::remote::Network) -> Result<IpNet, Error> {
    let address = address("network.address", &wire.address)?;
    let too_long = "at most the address's length in bits";
    let length = narrow("network.prefix_length", wire.prefix_length, too_long)?;
    IpNet::new(address, length).map_err(|_| Error::invalid("network.prefix_length", length, too_long))
}

fn range_of(wire: &v1::remote::AddressRange) -> Result<Remote, Error> {
    let (first, last) = (
        address("range.first", &wire.first)?,
        address("range.last", &wire.last)?,
    );
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(Error::invalid(
            "range.last",
            last,
            "of the family of range.first, and not before it",
        ));
    }
    Ok(Remote::Range(first, last))
}

fn domain(field: &str, name: String) -> Result<String, Error> {
    let fits =
        !name.is_empty() && !name.ends_with('.') && !name.bytes().any(|octet| octet.is_ascii_uppercase());
    if fits {
        Ok(name)
    } else {
        Err(Error::invalid(
            field,
            name,
            "a name in lower case without a closing dot",
        ))
    }
}
