//! Which addresses are this host's. A redirected query comes from whatever address of its own the program used.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use netlink::{Attributes, Builder, Socket, flags};
use tracing::warn;

const RTM_GETADDR: u16 = 22;
const RTM_NEWADDR: u16 = 20;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Strangers make us read the list at most this often.
const AT_MOST: Duration = Duration::from_secs(1);
/// What was an address of ours may be no longer.
const RENEW: Duration = Duration::from_secs(30);

/// The addresses of this host, read anew from time to time.
#[derive(Debug)]
pub struct OwnAddresses {
    known: RwLock<HashSet<IpAddr>>,
    /// When they were read, in milliseconds; 0: never.
    read: AtomicU64,
}

impl Default for OwnAddresses {
    fn default() -> Self {
        Self::new()
    }
}

impl OwnAddresses {
    /// Nothing is read yet.
    pub fn new() -> Self {
        Self {
            known: RwLock::default(),
            read: AtomicU64::new(0),
        }
    }

    /// Whether `peer` is an address of this host. Loopback always is: the kernel lets no such packet in from outside.
    pub fn has(&self, peer: SocketAddr, now: Duration) -> bool {
        let address = peer.ip().to_canonical();
        if address.is_loopback() {
            return true;
        }
        let known = self.knows(address);
        let age = now.saturating_sub(Duration::from_millis(self.read.load(Relaxed)));
        if age < if known { RENEW } else { AT_MOST } {
            return known;
        }
        self.renew(now);
        self.knows(address)
    }

    fn knows(&self, address: IpAddr) -> bool {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&address)
    }

    fn renew(&self, now: Duration) {
        self.read
            .store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
        match read() {
            Ok(addresses) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = addresses,
            Err(error) => warn!(%error, "this host's addresses cannot be read; those known before are used"),
        }
    }
}

fn read() -> Result<HashSet<IpAddr>, netlink::Error> {
    let socket = Socket::open(None, 0)?;
    let mut request = Builder::new();
    // struct ifaddrmsg: any family
    request
        .begin(RTM_GETADDR, flags::REQUEST | flags::DUMP, 1)
        .octets(&[0; 8])
        .end();
    let mut addresses = HashSet::new();
    let mut buffer = vec![0; 32 * 1024];
    socket.request("list addresses", &request, &mut buffer, |message| {
        if message.kind == RTM_NEWADDR
            && let Some((_, attributes)) = message.split::<8>()
        {
            addresses.extend(address(attributes));
        }
        true
    })?;
    Ok(addresses)
}

/// On links to one peer ADDRESS is the peer's, LOCAL ours.
fn address(attributes: Attributes<'_>) -> Option<IpAddr> {
    let found = attributes
        .find(IFA_LOCAL)
        .or_else(|| attributes.find(IFA_ADDRESS))?;
    let v4 = <[u8; 4]>::try_from(found.payload).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(found.payload).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_ours_and_strangers_are_not() {
        let own = OwnAddresses::new();
        let has = |text: &str| {
            own.has(
                SocketAddr::new(text.parse().unwrap(), 1),
                Duration::from_secs(100),
            )
        };
        assert!(has("127.0.0.1") && has("127.8.9.10") && has("::1") && has("::ffff:127.0.0.1"));
        assert!(!has("192.0.2.77") && !has("2001:db8::77"));
        assert!(own.knows([127, 0, 0, 1].into()), "the kernel's list was read");
    }
}
