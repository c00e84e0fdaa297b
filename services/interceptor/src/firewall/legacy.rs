//! Has an x_tables table changed? Two `getsockopt` calls answer without a program: the kernel hands out the table as it
//! keeps it, and all but its counters is hashed. Source: `linux/netfilter_ipv4/ip_tables.h`, `…_ipv6/ip6_tables.h`.

use std::{
    collections::hash_map::DefaultHasher,
    hash::Hasher,
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use verdict::ruleset::{Family, TableName};

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES` and `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// `struct ipt_getinfo`: name, hooks, entry points, underflows, number of entries, size.
const INFO: usize = 84;
/// Within it, the octets that all entries take.
const INFO_SIZE: usize = 80;
/// `struct ipt_get_entries`: name, size, padding; then the entries.
const HEADER: usize = 40;
const NAME: usize = 32;

/// Where an entry keeps what: its own length, and its counters (packets and octets).
struct Layout {
    next: usize,
    counters: usize,
    length: usize,
}

const fn layout(family: Family) -> Layout {
    match family {
        Family::V4 => Layout {
            next: 90,
            counters: 96,
            length: 112,
        },
        Family::V6 => Layout {
            next: 142,
            counters: 152,
            length: 168,
        },
    }
}

/// A hash of each table; `None` where the kernel has no such table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fingerprints(Vec<(Family, Option<u64>)>);

impl Fingerprints {
    /// Of all our tables, of this thread's network namespace. Errors without `CAP_NET_RAW` and `CAP_NET_ADMIN`, and
    /// where a table changes meanwhile.
    pub(super) fn take() -> io::Result<Self> {
        let mut prints = Vec::new();
        for family in super::apply::families() {
            let socket = open(family)?;
            for table in TableName::ALL {
                prints.push((family, print(&socket, family, table)?));
            }
        }
        Ok(Self(prints))
    }

    /// The families whose tables are not the same.
    pub(super) fn differ(&self, now: &Self) -> Vec<Family> {
        let of = |prints: &Self, wanted| -> Vec<_> {
            let mine = prints.0.iter().filter(|(family, _)| *family == wanted);
            mine.map(|(_, print)| *print).collect()
        };
        Family::ALL
            .into_iter()
            .filter(|family| of(self, *family) != of(now, *family))
            .collect()
    }
}

/// This process may read and change tables (`CAP_NET_RAW`; the rest is asked for when it does).
pub(super) fn is_permitted() -> bool {
    open(Family::V4).is_ok()
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    Ok(socket_with(
        domain,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(ipproto::RAW),
    )?)
}

fn print(socket: &OwnedFd, family: Family, table: TableName) -> io::Result<Option<u64>> {
    let mut info = named(table, INFO);
    match get(socket, family, GET_INFO, &mut info) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        result => result?,
    }
    let size = number(&info, INFO_SIZE).ok_or_else(torn)?;
    let length = usize::try_from(size).map_err(io::Error::other)?;
    let mut entries = named(table, HEADER + length);
    if let Some(place) = entries.get_mut(NAME..NAME + 4) {
        place.copy_from_slice(&size.to_ne_bytes());
    }
    get(socket, family, GET_ENTRIES, &mut entries)?;
    Ok(Some(hash(
        entries.get(HEADER..).unwrap_or_default(),
        &layout(family),
    )))
}

fn named(table: TableName, length: usize) -> Vec<u8> {
    let mut buffer = table.text().as_bytes().to_vec();
    buffer.resize(length, 0);
    buffer
}

fn number(buffer: &[u8], at: usize) -> Option<u32> {
    buffer
        .get(at..)?
        .first_chunk()
        .map(|octets| u32::from_ne_bytes(*octets))
}

fn torn() -> io::Error {
    io::Error::from_raw_os_error(libc::EAGAIN)
}

/// All but the counters. Total: what does not fit is hashed as it stands.
fn hash(mut entries: &[u8], layout: &Layout) -> u64 {
    let mut hasher = DefaultHasher::new();
    while let Some(next) = entries.get(layout.next..).and_then(<[u8]>::first_chunk) {
        let length = usize::from(u16::from_ne_bytes(*next));
        let Some((entry, rest)) = entries
            .split_at_checked(length)
            .filter(|_| length >= layout.length)
        else {
            break;
        };
        hasher.write(entry.get(..layout.counters).unwrap_or_default());
        hasher.write(entry.get(layout.length..).unwrap_or_default());
        entries = rest;
    }
    hasher.write(entries);
    hasher.finish()
}

#[expect(unsafe_code, reason = "getsockopt of x_tables has no safe wrapper in rustix")]
fn get(socket: &OwnedFd, family: Family, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let level = match family {
        Family::V4 => libc::IPPROTO_IP,
        Family::V6 => libc::IPPROTO_IPV6,
    };
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open; the kernel writes at most `length` octets, all of them inside `buffer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(mark: u8, packets: u8) -> Vec<u8> {
        let mut octets = vec![0; 120];
        octets[0] = mark;
        octets[90] = 120;
        octets[96] = packets;
        octets
    }

    #[test]
    fn counters_are_no_change_and_order_is() {
        let hash = |entries: &[Vec<u8>]| hash(&entries.concat(), &layout(Family::V4));
        assert_eq!(
            hash(&[entry(1, 0), entry(2, 0)]),
            hash(&[entry(1, 9), entry(2, 7)])
        );
        assert_ne!(
            hash(&[entry(1, 0), entry(2, 0)]),
            hash(&[entry(2, 0), entry(1, 0)])
        );
        assert_ne!(hash(&[entry(1, 0)]), hash(&[entry(1, 0), entry(1, 0)]));
    }

    proptest! {
        #[test]
        fn hashing_is_total(entries: Vec<u8>) {
            hash(&entries, &layout(Family::V4));
            hash(&entries, &layout(Family::V6));
        }
    }
}
