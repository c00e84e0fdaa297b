//! Who holds an address that cannot be bound.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// A process that holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as the kernel has it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Searches the kernel's tables for a socket that stands in the way of `address`, and the processes for it. Needs the right
/// to look into other processes; without it nobody is found.
pub(super) fn of(address: SocketAddr, table: &str) -> Option<Holder> {
    let files = [format!("/proc/net/{table}"), format!("/proc/net/{table}6")];
    let tables = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let inodes: Vec<u64> = tables
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| inode(line, address))
                .collect::<Vec<_>>()
        })
        .filter(|inode| *inode != 0)
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid| inodes.iter().any(|inode| holds(*pid, *inode)))
        .map(|pid: u32| Holder {
            pid,
            name: fs::read_to_string(format!("/proc/{pid}/comm"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
}

fn holds(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(&wanted)))
}

/// The inode of a line of a socket table, if its socket stands in the way of `address`: the same port, and the same address
/// or all; listening, or of a protocol without connections.
fn inode(line: &str, address: SocketAddr) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, _state) = (fields.next()?, fields.next()?, fields.next()?);
    let (held, port) = endpoint(local)?;
    let (_, remote_port) = endpoint(remote)?;
    let in_the_way = held.is_unspecified() || held.to_canonical() == address.ip().to_canonical();
    let inode = fields.nth(5)?.parse().ok()?;
    (port == address.port() && remote_port == 0 && in_the_way).then_some(inode)
}

/// `0100007F:0035`: the address in words of the host's byte order.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok();
    if address.len() == 8 {
        return Some((Ipv4Addr::from(word(0)?.to_ne_bytes()).into(), port));
    }
    let words = [word(0)?, word(1)?, word(2)?, word(3)?].map(u32::to_ne_bytes);
    let octets: [u8; 16] = words.as_flattened().try_into().ok()?;
    Some((Ipv6Addr::from(octets).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let line =
            "  28: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000  101 0 4711 2 0 0";
        let at = |text: &str| inode(line, text.parse().unwrap());
        assert_eq!(at("127.0.0.1:53"), Some(4711));
        assert_eq!((at("127.0.0.1:54"), at("127.0.0.2:53")), (None, None));
        let any = "  1: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12 1";
        assert_eq!(inode(any, "[::1]:53".parse().unwrap()), Some(12));
    }

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let holder = of(socket.local_addr().unwrap(), "udp").unwrap();
        assert_eq!(holder.pid, std::process::id());
    }
}
