//! Whether servers can be reached as before: looked at when the kernel says that links, addresses or routes changed.
//!
//! Invariant: a connection is left, and a pause ended, only where the way to that very server changed or broke; containers
//! that come and go on a host change nothing for its upstreams. A server without a way is taken to be down at once, which the
//! next probe may disprove.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Context as _;
use netlink::route::{Shaken, Watch, Way, Ways};
use tokio::{io::unix::AsyncFd, time::sleep};

use super::Router;

/// Changes come in swarms: the first is looked at immediately, those that follow together.
const SETTLE: Duration = Duration::from_millis(100);

/// What stands for a server whose address is not known: some of the internet (RFC 5737, RFC 3849).
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// What became of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As before.
    Same,
    /// It is reached another way, or was not reached for a moment.
    Changed,
    /// It is not reached any more.
    CutOff,
}

/// Each address's way.
type Picture = HashMap<IpAddr, Option<Way>>;

/// Compares two pictures.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    before: &'a Picture,
    now: &'a Picture,
    shaken: &'a Shaken,
}

impl Comparison<'_> {
    /// What became of a server at these addresses.
    pub(crate) fn reach(&self, addresses: &[IpAddr]) -> Reach {
        let addresses = or_anywhere(addresses);
        let is_usable = |picture: &Picture| {
            let ways = addresses
                .iter()
                .filter_map(|address| picture.get(address)?.as_ref());
            ways.filter(|way| way.running).count() > 0
        };
        // who was never looked at has nothing to lose
        if !addresses.iter().any(|address| self.before.contains_key(address)) {
            return Reach::Same;
        }
        match (is_usable(self.before), is_usable(self.now)) {
            (_, true) if addresses.iter().any(|address| self.is_other(address)) => Reach::Changed,
            (true, false) => Reach::CutOff,
            _ => Reach::Same,
        }
    }

    fn is_other(&self, address: &IpAddr) -> bool {
        let (before, now) = (self.before.get(address), self.now.get(address));
        let Some(Some(way)) = now else {
            return before != now;
        };
        before != now || self.shaken.lost || self.shaken.interfaces.contains(&way.interface)
    }
}

/// The addresses that stand for a server.
pub(super) fn or_anywhere(addresses: &[IpAddr]) -> &[IpAddr] {
    if addresses.is_empty() {
        &ANYWHERE
    } else {
        addresses
    }
}

impl Router {
    /// Watches links, addresses and routes, for ever: who is reached another way is asked at once, without the pauses of
    /// before, and who is not reached any more is not waited for. `changed` hears of the former, and of other servers that the
    /// system names.
    pub async fn follow_ways(&self, changed: impl Fn()) {
        let Err(error) = Box::pin(self.watch_ways(&changed)).await;
        tracing::warn!(
            error = format!("{error:#}"),
            "nobody says when the network comes back: servers are tried after their pauses"
        );
        loop {
            self.shared.servers_changed.notified().await;
            changed();
        }
    }

    async fn watch_ways(&self, changed: &impl Fn()) -> anyhow::Result<Infallible> {
        let mut kernel = Kernel::open().context("watch links and routes")?;
        let mut before = kernel.picture(self.addresses());
        loop {
            let shaken = tokio::select! {
                shaken = kernel.shaken() => shaken.context("hear of links and routes")?,
                () = self.shared.servers_changed.notified() => {
                    before = kernel.picture(self.addresses());
                    changed();
                    continue;
                }
            };
            let now = kernel.picture(self.addresses());
            let comparison = Comparison {
                before: &before,
                now: &now,
                shaken: &shaken,
            };
            let pools = self.pools();
            // each of them hears of it
            let changes = pools.iter().filter(|pool| pool.ways_changed(&comparison));
            if changes.count() > 0 {
                tracing::debug!("servers are reached another way");
                changed();
            }
            before = now;
            kernel.settle().await;
        }
    }
}

/// Hears of changes, and takes pictures.
struct Kernel {
    watch: AsyncFd<Watch>,
    ways: Ways,
}

impl Kernel {
    fn open() -> anyhow::Result<Self> {
        Ok(Self {
            watch: readable(Watch::open()?)?,
            ways: Ways::open()?,
        })
    }

    fn picture(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Picture {
        let mut picture = Picture::new();
        for address in addresses {
            picture.entry(address).or_insert_with(|| self.ways.to(address));
        }
        picture
    }

    /// Returns when something happened.
    async fn shaken(&self) -> anyhow::Result<Shaken> {
        loop {
            let mut ready = self.watch.readable().await?;
            let shaken = self.watch.get_ref().take()?;
            ready.clear_ready();
            if !shaken.is_nothing() {
                return Ok(shaken);
            }
        }
    }

    /// Lets those come together that come together.
    async fn settle(&self) {
        sleep(SETTLE).await;
    }
}

#[expect(
    unsafe_code,
    reason = "AsyncFd has no safe constructor for a type that is not its own descriptor"
)]
fn readable(watch: Watch) -> anyhow::Result<AsyncFd<Watch>> {
    // SAFETY: Watch owns its descriptor, gives always the same, and closes it only when it is dropped.
    Ok(unsafe { AsyncFd::register(watch) }?)
}

#[cfg(test)]
mod tests;
