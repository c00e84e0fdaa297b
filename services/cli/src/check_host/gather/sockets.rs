//! Sockets of this network namespace, from the tables under `/proc/net`. Source: `proc_pid_net(5)`.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A socket that listens, or that receives datagrams of anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) tcp: bool,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) inode: u64,
}

/// Those on these ports.
pub(super) fn bound(ports: &[u16]) -> Vec<Bound> {
    let mut all = Vec::new();
    for (table, tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        let rows = text.lines().skip(1).filter_map(|line| row(line, tcp));
        all.extend(rows.filter(|bound| ports.contains(&bound.port)));
    }
    all
}

/// `sl local remote state queues timer retransmissions uid timeout inode`
fn row(line: &str, tcp: bool) -> Option<Bound> {
    const LISTENS: &str = "0A";
    const UNCONNECTED: &str = "07";
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, _, _, inode, ..] = *words.as_slice() else {
        return None;
    };
    if state != (if tcp { LISTENS } else { UNCONNECTED }) {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some(Bound {
        tcp,
        address: parse(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

fn parse(address: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match address.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let octets: [u8; 16] = [word(0)?, word(8)?, word(16)?, word(24)?]
                .concat()
                .try_into()
                .ok()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

/// Netfilter sockets with these netlink ports: port and inode.
pub(super) fn netlink(ports: &[u32]) -> Vec<(u32, u64)> {
    let text = fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    let rows = text.lines().skip(1).filter_map(netlink_row);
    rows.filter(|(port, _)| ports.contains(port)).collect()
}

/// `sk protocol port groups receiving sending dump locks drops inode`
fn netlink_row(line: &str) -> Option<(u32, u64)> {
    const NETFILTER: &str = "12";
    let words: Vec<_> = line.split_whitespace().collect();
    match *words.as_slice() {
        [_, NETFILTER, port, _, _, _, _, _, _, inode, ..] => Some((port.parse().ok()?, inode.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_waits_for_strangers_is_told_from_who_talks() {
        let listens = "   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4242 1 x 100";
        assert_eq!(
            row(listens, true),
            Some(Bound {
                tcp: true,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 53,
                inode: 4242
            })
        );
        assert_eq!(row(&listens.replace(" 0A ", " 01 "), true), None);
        assert_eq!(row(&listens.replace(" 0A ", " 07 "), false).unwrap().port, 53);
        let six = listens.replace("0100007F", "00000000000000000000000001000000");
        assert_eq!(row(&six, true).unwrap().address, IpAddr::V6(Ipv6Addr::LOCALHOST));
    }

    #[test]
    fn netfilter_sockets_are_told_by_their_port() {
        let line = "00000000f0 12  2661411260 00000000 0        0        0     2        0        98765";
        assert_eq!(netlink_row(line), Some((2_661_411_260, 98_765)));
        assert_eq!(netlink_row(&line.replacen(" 12 ", " 0 ", 1)), None);
    }

    proptest! {
        #[test]
        fn reading_is_total(line: String) {
            let _ = (row(&line, true), netlink_row(&line));
        }
    }
}
