//! The socket tables under `/proc/net`: the way that always works, for every protocol that has a table, and the only one
//! for raw and ping sockets where the kernel lacks `raw_diag`.
//!
//! Source: `proc_pid_net(5)`. Addresses stand as this host's words, ports in hexadecimal.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use verdict::{Direction, Endpoint, Flow, Protocol};

use netlink::diag::Found;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    local: Endpoint,
    remote: Endpoint,
    uid: u32,
    inode: u64,
}

/// Looks through the tables of the flow's protocol. `uid`: owner of the packet's socket, where known; it tells apart what
/// addresses do not.
pub fn find(flow: &Flow, uid: Option<u32>) -> Option<Found> {
    let mut best: Option<(u32, Row)> = None;
    for table in tables(flow) {
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else {
            continue;
        };
        let own_family = flow.local.address.is_ipv6() == table.ends_with('6');
        for row in text.lines().skip(1).filter_map(row) {
            let fit = if table.starts_with("raw") {
                raw_score(&row, flow)
            } else {
                score(&row, flow)
            };
            let score = fit.map(|fit| {
                u32::from(uid == Some(row.uid)) * OWNER + fit + u32::from(own_family) * OWN_FAMILY
            });
            // of equals, the one that was made last
            if let Some(score) = score.filter(|_| row.inode != 0)
                && best.is_none_or(|(best, other)| (score, row.inode) > (best, other.inode))
            {
                best = Some((score, row));
            }
        }
    }
    best.map(|(_, row)| Found {
        inode: row.inode,
        uid: row.uid,
        cgroup_id: 0,
    })
}

fn tables(flow: &Flow) -> &'static [&'static str] {
    let v4 = flow.local.address.is_ipv4();
    match (flow.protocol, v4) {
        (Protocol::TCP, true) => &["tcp", "tcp6"],
        (Protocol::TCP, false) => &["tcp6"],
        (Protocol::UDP, true) => &["udp", "udp6", "raw"],
        (Protocol::UDP, false) => &["udp6", "raw6"],
        (Protocol::UDPLITE, true) => &["udplite", "udplite6", "raw"],
        (Protocol::UDPLITE, false) => &["udplite6", "raw6"],
        (Protocol::ICMP, _) => &["icmp", "raw"],
        (Protocol::ICMPV6, _) => &["icmp6", "raw6"],
        (_, true) => &["raw"],
        (_, false) => &["raw6"],
    }
}

fn row(line: &str) -> Option<Row> {
    let mut words = line.split_ascii_whitespace();
    let (_slot, local, remote) = (words.next()?, words.next()?, words.next()?);
    let mut behind = words.skip(4); // state, queues, timer, retransmissions
    Some(Row {
        local: endpoint(local)?,
        remote: endpoint(remote)?,
        uid: behind.next()?.parse().ok()?,
        inode: behind.nth(1)?.parse().ok()?,
    })
}

fn endpoint(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        u32::from_str_radix(address.get(at..at + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let octets: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(Endpoint::new(address, port))
}

/// What a socket is preferred for, the weightiest first. But for the owner this is the kernel's own order: a socket with
/// ports before a raw one, connected before bound before wildcard, its own family before one of both families.
const OWNER: u32 = 16;
const PORTS: u32 = 8;
const REMOTE: u32 = 4;
const LOCAL: u32 = 2;
const OWN_FAMILY: u32 = 1;

/// How well a socket fits; an ICMP socket's port is its identifier.
fn score(row: &Row, flow: &Flow) -> Option<u32> {
    let port_fits = flow.protocol.is_icmp() || [0, flow.remote.port].contains(&row.remote.port);
    if row.local.port != flow.local.port || !port_fits {
        return None;
    }
    Some(PORTS + addresses(row, flow)?)
}

/// A raw socket's "port" is its protocol.
fn raw_score(row: &Row, flow: &Flow) -> Option<u32> {
    let protocol = u16::from(flow.protocol.0);
    // IPPROTO_RAW (255) sends any protocol and receives none
    let any = row.local.port == 255 && flow.direction == Direction::Outgoing;
    (row.local.port == protocol || any)
        .then(|| addresses(row, flow))
        .flatten()
}

fn addresses(row: &Row, flow: &Flow) -> Option<u32> {
    Some(
        fits(row.remote.address, flow.remote.address)? * REMOTE
            + fits(row.local.address, flow.local.address)? * LOCAL,
    )
}

fn fits(bound: IpAddr, actual: IpAddr) -> Option<u32> {
    if bound == actual {
        Some(1)
    } else {
        bound.is_unspecified().then_some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "   0: 0100007F:1F90 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000";

    #[test]
    fn a_line_is_read() {
        let row = row(LINE).unwrap();
        assert_eq!(row.local, Endpoint::new("127.0.0.1".parse().unwrap(), 8080));
        assert_eq!(row.remote, Endpoint::new("127.0.0.2".parse().unwrap(), 50_000));
        assert_eq!((row.uid, row.inode), (1000, 4242));
    }

    #[test]
    fn a_mapped_address_is_the_v4_address() {
        let end = endpoint("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(end, Endpoint::new("127.0.0.1".parse().unwrap(), 80));
    }

    proptest! {
        #[test]
        fn reading_is_total(line: String) {
            let _ = row(&line);
        }
    }
}
