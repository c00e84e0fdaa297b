//! How much one client network, and all together, may have at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{config::Bounds, rates::Rates};

/// A /24 of IPv4, a /48 of IPv6: who has one address of it has them all, as far as this node can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(u64);

impl Network {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits() >> 8) | 1 << 63),
            IpAddr::V6(address) => Self(u64::try_from(address.to_bits() >> 80).unwrap_or_default()),
        }
    }

    /// Of a node of the map: its own address, apart from its neighbours.
    fn of_node(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits()) | 3 << 62),
            IpAddr::V6(address) => Self(u64::try_from(address.to_bits() >> 66).unwrap_or_default() | 1 << 62),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection, from its acceptance on.
    Connection,
    /// Until it is known what a caller wants.
    Handshake,
    /// Anything carried.
    Stream,
}

#[derive(Debug, Default)]
struct Counts([AtomicUsize; 3]);

impl Counts {
    fn of(&self, kind: Kind) -> &AtomicUsize {
        let [connections, handshakes, streams] = &self.0;
        match kind {
            Kind::Connection => connections,
            Kind::Handshake => handshakes,
            Kind::Stream => streams,
        }
    }

    fn take(&self, kind: Kind, limit: usize) -> bool {
        let more = |now| (now < limit).then_some(now + 1);
        self.of(kind)
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    fn give_back(&self, kind: Kind) {
        self.of(kind).fetch_sub(1, Ordering::Relaxed);
    }
}

/// All clients.
#[derive(Clone, Debug)]
pub struct Limits(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Bounds,
    all: Counts,
    buffered: Arc<Semaphore>,
    /// Octets that came and could not be handed on.
    unwritten: AtomicUsize,
    networks: Mutex<HashMap<Network, Arc<Share>>>,
}

#[derive(Debug)]
struct Share {
    counts: Counts,
    buffered: Arc<Semaphore>,
    unwritten: AtomicUsize,
}

/// One client network's part; forgotten with the last who holds one.
#[derive(Debug)]
pub struct Client {
    limits: Limits,
    network: Network,
    /// Times what a network may have.
    parts: usize,
    share: Option<Arc<Share>>,
}

/// One of what is counted; given back when dropped.
#[derive(Debug)]
pub struct Held {
    client: Arc<Client>,
    kind: Kind,
}

/// Room for octets on their way to a client; given back when dropped.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Octets that came from a client, and that where they go to does not take; given back when dropped.
#[derive(Debug)]
pub struct Owed<'a> {
    client: &'a Client,
    octets: usize,
}

/// How much a network's clients have waiting at destinations that do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strain {
    /// What may be.
    Fair,
    /// Who gets nowhere has to go.
    High,
    /// Who has much waiting has to go.
    Extreme,
}

/// Networks of clients that may come by one node, each with all that it may have: who it lets through it has counted itself.
const BY_A_NODE: usize = 16;
/// Of what may be on its way, before it is [`Strain::Extreme`].
const EXTREME: usize = 4;

impl Limits {
    /// Nobody holds anything.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Inner {
            bounds,
            all: Counts::default(),
            buffered: Arc::new(Semaphore::new(bounds.buffered)),
            unwritten: AtomicUsize::new(0),
            networks: Mutex::default(),
        }))
    }

    /// As configured.
    pub fn bounds(&self) -> &Bounds {
        &self.0.bounds
    }

    /// A caller's part.
    pub fn client(&self, address: IpAddr) -> Arc<Client> {
        self.of(Network::of(address), 1)
    }

    /// That of a node of the map: many clients come by way of it.
    pub fn node(&self, address: IpAddr) -> Arc<Client> {
        self.of(Network::of_node(address), BY_A_NODE)
    }

    fn of(&self, network: Network, parts: usize) -> Arc<Client> {
        let bounds = &self.0.bounds;
        let buffered = bounds
            .buffered_per_network
            .saturating_mul(parts)
            .min(bounds.buffered);
        let mut networks = self.0.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let share = networks.entry(network).or_insert_with(|| {
            Arc::new(Share {
                counts: Counts::default(),
                buffered: Arc::new(Semaphore::new(buffered)),
                unwritten: AtomicUsize::new(0),
            })
        });
        Arc::new(Client {
            limits: self.clone(),
            network,
            parts,
            share: Some(Arc::clone(share)),
        })
    }

    /// How many there are in all.
    pub fn count(&self, kind: Kind) -> usize {
        self.0.all.of(kind).load(Ordering::Relaxed)
    }

    fn limits_of(&self, kind: Kind) -> (usize, usize) {
        let bounds = &self.0.bounds;
        match kind {
            Kind::Connection => (bounds.connections_per_network, bounds.connections),
            Kind::Handshake => (bounds.handshakes_per_network, bounds.handshakes),
            Kind::Stream => (bounds.streams_per_network, bounds.streams),
        }
    }
}

impl Client {
    /// One more; None where that is too many.
    pub fn take(self: &Arc<Self>, kind: Kind) -> Option<Held> {
        let share = self.share.as_ref()?;
        let (own, all) = self.limits.limits_of(kind);
        let own = own.saturating_mul(self.parts).min(all);
        if !share.counts.take(kind, own) {
            return None;
        }
        if !self.limits.0.all.take(kind, all) {
            share.counts.give_back(kind);
            return None;
        }
        Some(Held {
            client: Arc::clone(self),
            kind,
        })
    }

    /// Where it comes from.
    pub const fn network(&self) -> Network {
        self.network
    }

    /// One more stream, if that is not too many, nor too often.
    pub fn opens(self: &Arc<Self>, rates: &Rates) -> Option<Held> {
        let held = self.take(Kind::Stream)?;
        rates.admits(self.network, Instant::now()).then_some(held)
    }

    /// An account of what waits.
    pub const fn owes(&self) -> Owed<'_> {
        Owed {
            client: self,
            octets: 0,
        }
    }

    /// Waits until there is room for so many octets. The network's own comes first: who reads nothing waits for himself.
    pub async fn room(&self, octets: usize) -> Option<Room> {
        let kibibytes = u32::try_from(octets.div_ceil(1024)).ok()?;
        let own = Arc::clone(&self.share.as_ref()?.buffered);
        let own = own.acquire_many_owned(kibibytes).await.ok()?;
        let all = Arc::clone(&self.limits.0.buffered);
        let all = all.acquire_many_owned(kibibytes).await.ok()?;
        Some(Room { _own: own, _all: all })
    }
}

impl Owed<'_> {
    /// So much waits now.
    pub fn set(&mut self, octets: usize) {
        if octets == self.octets {
            return;
        }
        for sum in self.sums() {
            sum.fetch_add(octets, Ordering::Relaxed);
            sum.fetch_sub(self.octets, Ordering::Relaxed);
        }
        self.octets = octets;
    }

    /// Of this client's network, or of all together.
    pub fn strain(&self) -> Strain {
        let bounds = self.client.limits.bounds();
        let mut strain = Strain::Fair;
        let own = bounds.buffered_per_network.saturating_mul(self.client.parts);
        for (sum, kibibytes) in self.sums().zip([bounds.buffered, own]) {
            let (sum, limit) = (sum.load(Ordering::Relaxed), kibibytes.saturating_mul(1024));
            let of_this = match sum {
                _ if sum > limit.saturating_mul(EXTREME) => Strain::Extreme,
                _ if sum > limit => Strain::High,
                _ => Strain::Fair,
            };
            strain = strain.max(of_this);
        }
        strain
    }

    fn sums(&self) -> impl Iterator<Item = &AtomicUsize> {
        let all = &self.client.limits.0.unwritten;
        let own = self.client.share.as_ref().map(|share| &share.unwritten);
        [Some(all), own].into_iter().flatten()
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(share) = &self.client.share {
            share.counts.give_back(self.kind);
        }
        self.client.limits.0.all.give_back(self.kind);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut networks = self
            .limits
            .0
            .networks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // the map's own is the last
        drop(self.share.take());
        if networks
            .get(&self.network)
            .is_some_and(|share| Arc::strong_count(share) == 1)
        {
            networks.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests;
