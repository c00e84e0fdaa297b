//! `--to HOST:PORT` as flows: one per address of HOST.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use verdict::{Direction, Endpoint, Flow, Protocol};

use crate::args::ExplainArgs;

/// Asking for a name may take this long.
const LOOKUP: Duration = Duration::from_secs(10);

/// What is to be explained.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// One per address.
    pub(super) flows: Vec<Flow>,
    /// Name that the program asked for; "" where it asked for none.
    pub(super) domain: String,
}

/// Asks DNS for a name's addresses, unless they are given.
pub(super) async fn target(args: &ExplainArgs) -> Result<Target> {
    let (host, port) = parse(&args.to, args.protocol)?;
    let (addresses, name) = match host {
        Host::Address(address) => (vec![address], ""),
        Host::Name(name) if args.address.is_empty() => (look_up(name).await?, name),
        Host::Name(name) => (args.address.clone(), name),
    };
    let domain = args
        .domain
        .as_deref()
        .unwrap_or(if args.incoming { "" } else { name });
    let flow = |address| flow(args, address, port);
    let flows: Vec<Flow> = addresses
        .into_iter()
        .filter(|address| fits(args.protocol, *address))
        .map(flow)
        .collect();
    if flows.is_empty() {
        bail!(
            "{} has no address that {} goes to: try --protocol {}",
            args.to,
            args.protocol,
            other_family(args.protocol)
        );
    }
    Ok(Target {
        flows,
        domain: domain.trim_end_matches('.').to_lowercase(),
    })
}

/// The name that the program would have to ask for first; none for an address alone, and for who comes in.
pub(super) fn asked_name(args: &ExplainArgs) -> Option<String> {
    let host = match split(&args.to) {
        Ok((Host::Name(name), _)) => Some(name),
        _ => None,
    };
    let name = args.domain.as_deref().or(host).filter(|_| !args.incoming)?;
    Some(name.trim_end_matches('.').to_lowercase())
}

/// The target is a name, and nobody said where it is.
pub(super) fn needs_addresses(args: &ExplainArgs) -> bool {
    args.address.is_empty() && matches!(split(&args.to), Ok((Host::Name(_), _)))
}

#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// `192.0.2.7:443`, `[2001:db8::7]:443`, `example.com:443`; the same without a port where the protocol has none.
fn parse(text: &str, protocol: Protocol) -> Result<(Host<'_>, u16)> {
    let (host, port) = split(text)?;
    match port {
        Some(port) if protocol.has_ports() => Ok((host, port)),
        None if !protocol.has_ports() => Ok((host, 0)),
        Some(_) => bail!("{protocol} has no ports: give --to HOST alone"),
        None => bail!("--to {text} has no port: give --to HOST:PORT (an IPv6 address in brackets)"),
    }
}

fn split(text: &str) -> Result<(Host<'_>, Option<u16>)> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((Host::Address(socket.ip()), Some(socket.port())));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok((Host::Address(address), None));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (
            name,
            Some(
                port.parse()
                    .with_context(|| format!("--to {text}: the port is a number up to 65535"))?,
            ),
        ),
        None => (text, None),
    };
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|letter| letter.is_alphanumeric() || "-_.".contains(letter));
    if !is_name {
        bail!("--to {text}: give a name or an address, like example.com:443 or [2001:db8::7]:443");
    }
    Ok((Host::Name(name), port))
}

async fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let remedy = "give --address";
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await;
    let found = found.with_context(|| {
        format!(
            "no answer from DNS for {name} within {} s: {remedy}",
            LOOKUP.as_secs()
        )
    })?;
    let mut addresses = Vec::new();
    for socket in found.with_context(|| format!("ask DNS for {name}: {remedy}"))? {
        let address = socket.ip().to_canonical();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// ICMP is of one family alone.
fn fits(protocol: Protocol, address: IpAddr) -> bool {
    match protocol {
        Protocol::ICMP => address.is_ipv4(),
        Protocol::ICMPV6 => address.is_ipv6(),
        _ => true,
    }
}

const fn other_family(protocol: Protocol) -> &'static str {
    if protocol.0 == Protocol::ICMP.0 {
        "icmpv6"
    } else {
        "icmp"
    }
}

fn flow(args: &ExplainArgs, address: IpAddr, port: u16) -> Flow {
    let icmp_type = args.icmp_type.unwrap_or(if address.is_ipv4() { 8 } else { 128 });
    let (local_port, remote_port) = match args.incoming {
        _ if args.protocol.is_icmp() => (0, u16::from_be_bytes([icmp_type, 0])),
        true => (port, 0),
        false => (0, port),
    };
    Flow {
        direction: if args.incoming {
            Direction::Incoming
        } else {
            Direction::Outgoing
        },
        protocol: args.protocol,
        local: Endpoint::new(local_address(address), local_port),
        remote: Endpoint::new(address, remote_port),
    }
}

/// The address that this host would use towards `remote`; nothing is sent.
fn local_address(remote: IpAddr) -> IpAddr {
    let unspecified = if remote.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let ask = || {
        let socket = UdpSocket::bind((unspecified, 0))?;
        socket.connect((remote, 9))?;
        socket.local_addr()
    };
    ask().map_or(unspecified, |local| local.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        let (v4, v6): (IpAddr, IpAddr) = ("192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap());
        let tcp = |text| parse(text, Protocol::TCP).unwrap();
        assert_eq!(tcp("192.0.2.7:443"), (Host::Address(v4), 443));
        assert_eq!(tcp("[2001:db8::7]:443"), (Host::Address(v6), 443));
        assert_eq!(tcp("a-b.example:1"), (Host::Name("a-b.example"), 1));
        let ping = |text| parse(text, Protocol::ICMPV6).unwrap();
        assert_eq!(ping("2001:db8::7"), (Host::Address(v6), 0));
        assert_eq!(ping("[2001:db8::7]"), (Host::Address(v6), 0));
        assert_eq!(ping("host"), (Host::Name("host"), 0));
    }

    #[test]
    fn a_wrong_target_says_what_is_wanted() {
        let error = |text, protocol| parse(text, protocol).unwrap_err().to_string();
        assert!(error("192.0.2.7", Protocol::TCP).contains("HOST:PORT"));
        assert!(error("2001:db8::7", Protocol::TCP).contains("brackets"));
        assert!(error("example.com:99999", Protocol::UDP).contains("65535"));
        assert!(error("192.0.2.7:80", Protocol::ICMP).contains("icmp has no ports"));
        assert!(error("https://example.com", Protocol::TCP).contains("port"));
        assert!(error("a b", Protocol::ICMP).contains("example.com:443"));
    }

    #[test]
    fn towards_itself_this_host_uses_the_same_address() {
        for address in ["127.0.0.1", "127.0.0.9"] {
            let address: IpAddr = address.parse().unwrap();
            assert!(local_address(address).is_loopback());
        }
    }
}
