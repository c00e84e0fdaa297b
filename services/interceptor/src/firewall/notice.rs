//! Says when somebody may have changed our tables.
//!
//! nf_tables tells each change on a multicast group (`NFNLGRP_NFTABLES`). x_tables tells nothing: its tables are looked
//! at twice a second, by two system calls each.

use std::{io, time::Duration};

use netlink::{Messages, Socket};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use verdict::ruleset::{Family, TableName};

use super::{Backend, legacy::Fingerprints};

/// So that a change is repaired within a second.
const LOOK: Duration = Duration::from_millis(400);
/// `1 << (NFNLGRP_NFTABLES - 1)`.
const GROUP: u32 = 1 << 6;
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWTABLE` … `NFT_MSG_DELRULE`: tables, chains, rules; sets and counters change all the time.
const OBJECTS: std::ops::RangeInclusive<u16> = 0..=8;
/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`: all the same.
const TABLE: u16 = 1;

/// One source of notices.
pub(super) enum Notices {
    /// Told by the kernel.
    Told(AsyncFd<Socket>),
    /// Looked for.
    Looked {
        /// How often.
        every: Interval,
        /// Of tables that were compared after it was taken; `None` where they were not as they should be.
        last: Option<Fingerprints>,
    },
    /// Neither works here: compare at every interval.
    Blind(Interval),
}

impl Notices {
    /// For the tables of this back end in this thread's network namespace.
    pub(super) fn open(backend: Backend) -> Self {
        let opened = match backend {
            Backend::Nft => told(),
            Backend::Legacy => Fingerprints::take().map(|last| Self::Looked {
                every: steady(LOOK),
                last: Some(last),
            }),
        };
        opened.unwrap_or_else(|error| {
            tracing::warn!(%error, %backend, "changes of the firewall cannot be noticed; the rules are compared every second");
            Self::Blind(steady(Duration::from_secs(1)))
        })
    }

    /// Waits until tables of these families may have changed; never an empty answer.
    pub(super) async fn changed(&mut self) -> Vec<Family> {
        loop {
            let families = match self {
                Self::Told(socket) => read(socket).await,
                Self::Looked { every, last } => {
                    every.tick().await;
                    look(last)
                }
                Self::Blind(every) => {
                    every.tick().await;
                    Family::ALL.to_vec()
                }
            };
            if !families.is_empty() {
                return families;
            }
        }
    }

    /// What has changed until now and was not told yet.
    pub(super) fn more(&mut self) -> Vec<Family> {
        match self {
            Self::Told(socket) => waiting(socket.get_ref()),
            Self::Looked { last, .. } => look(last),
            Self::Blind(_) => Vec::new(),
        }
    }

    /// What was compared was not as it should be and has been changed: whatever is there now has to be compared again.
    /// (If somebody undoes a repair at once, a table looks as it did before.)
    pub(super) fn doubt(&mut self) {
        if let Self::Looked { last, .. } = self {
            *last = None;
        }
    }
}

pub(super) fn steady(period: Duration) -> Interval {
    let mut every = interval_at(Instant::now() + period, period);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    every
}

#[expect(
    unsafe_code,
    reason = "tokio has no safe way to register a descriptor that somebody else's type owns"
)]
fn told() -> io::Result<Notices> {
    let socket = Socket::open(rustix::net::netlink::NETFILTER, GROUP).map_err(io::Error::other)?;
    // SAFETY: the socket owns its descriptor, keeps it open as long as it lives, and always names the same one.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    Ok(Notices::Told(registered?))
}

fn look(last: &mut Option<Fingerprints>) -> Vec<Family> {
    let now = Fingerprints::take().ok(); // an error: changed while it was read
    let families = match (last.as_ref(), &now) {
        (Some(last), Some(now)) => last.differ(now),
        _ => Family::ALL.to_vec(),
    };
    *last = now;
    families
}

async fn read(socket: &AsyncFd<Socket>) -> Vec<Family> {
    let Ok(mut ready) = socket.readable().await else {
        return Family::ALL.to_vec();
    };
    let families = waiting(socket.get_ref());
    ready.clear_ready();
    families
}

/// Families that the waiting messages are about, perhaps more than once.
fn waiting(socket: &Socket) -> Vec<Family> {
    let mut families = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match socket.receive(&mut buffer) {
            Ok(Some(datagram)) => families.extend(Messages::new(datagram).filter_map(|message| {
                let (&[family, ..], attributes) = message.split::<4>()?;
                let table = attributes.find(TABLE).map(|attribute| attribute.payload);
                concerned(message.kind, family, table)
            })),
            Ok(None) => return families,
            Err(_) => return Family::ALL.to_vec(), // messages were lost
        }
    }
}

/// The family whose tables this message is about, if they are among ours.
fn concerned(kind: u16, family: u8, table: Option<&[u8]>) -> Option<Family> {
    const IPV4: u8 = 2;
    const IPV6: u8 = 10;
    let name = table?.strip_suffix(&[0]).or(table)?;
    let ours = TableName::ALL.iter().any(|table| table.text().as_bytes() == name);
    if kind >> 8 != SUBSYSTEM || !OBJECTS.contains(&(kind & 0xff)) || !ours {
        return None;
    }
    match family {
        IPV4 => Some(Family::V4),
        IPV6 => Some(Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_tables_concern_us() {
        let new_rule = SUBSYSTEM << 8 | 6;
        assert_eq!(concerned(new_rule, 2, Some(b"filter\0")), Some(Family::V4));
        assert_eq!(concerned(new_rule, 10, Some(b"mangle\0")), Some(Family::V6));
        assert_eq!(concerned(new_rule, 1, Some(b"filter\0")), None); // inet, firewalld's
        assert_eq!(concerned(new_rule, 2, Some(b"other\0")), None);
        assert_eq!(concerned(SUBSYSTEM << 8 | 12, 2, Some(b"filter\0")), None); // an element of a set
        assert_eq!(concerned(0x0306, 2, Some(b"filter\0")), None);
        assert_eq!(concerned(new_rule, 2, None), None);
    }
}
