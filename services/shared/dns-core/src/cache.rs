//! Answers that were given once, ready to be given again.
//!
//! Invariants: an answer is never given beyond its life but as a stale one, with 30 seconds to live, when upstreams fail
//! (RFC 8767); the cache takes no more bytes than it may, whatever is asked. Room is made by S3-FIFO (Yang et al., SOSP
//! 2023): what comes in passes through a small queue of a tenth of the room, and only what is used there again moves to the
//! main one. A flood of random names, each asked once, thus pushes out other such names and nothing that is used.
//!
//! Shared by threads: a lookup hashes without a lock, then holds the lock of one of several shards for the time of a table
//! lookup and a reference count; the copying is done without it.

mod file;
mod shard;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Name, Question,
    siphash::siphash,
    wire::{Age, Answer, Key, Kind},
};
pub use file::{LoadError, Loaded};
use shard::Shard;

/// How large the cache may be, and how it treats what is over its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes, with all that is kept beside the answers.
    pub bytes: usize,
    /// Parts with a lock of their own; rounded up to a power of two.
    pub shards: usize,
    /// For how long after its life an answer may be given when upstreams fail (RFC 8767 §5: one to three days). Zero: not
    /// at all.
    pub stale: Duration,
    /// For how long after a failure the upstreams are not asked again, while there is a stale answer (RFC 8767 §5: at least
    /// 30 s).
    pub rest: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            shards: 8,
            stale: Duration::from_secs(86_400),
            rest: Duration::from_secs(30),
        }
    }
}

/// The cache. Time is told to it: `now` since any moment, always the same, by a clock that is not set.
#[derive(Debug)]
pub struct Cache {
    shards: Box<[Mutex<Shard>]>,
    secret: [u64; 2],
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing that can be given: ask.
    Miss,
    /// An answer within its life.
    Fresh {
        /// The answer.
        answer: Arc<Answer>,
        /// Its age, in seconds.
        age: u32,
        /// It is used and will soon be over: ask for it anew, meanwhile give this one. Said once.
        refresh: bool,
    },
    /// An answer beyond its life, whose upstreams failed a moment ago: give it, do not ask.
    Stale(Arc<Answer>),
}

/// An entry, for those who want to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Under what it is kept.
    pub question: Question,
    /// For clients that want DNSSEC records.
    pub dnssec_ok: bool,
    /// For clients that validate themselves.
    pub checking_disabled: bool,
    /// The answer.
    pub answer: Arc<Answer>,
    /// What is left of its life, in seconds; 0 for a stale one.
    pub left: u32,
    /// How often it was used in this life, up to 255.
    pub uses: u8,
}

/// What the cache is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Entries, stale ones among them.
    pub entries: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Lookups that found a fresh answer.
    pub hits: u64,
    /// Lookups answered with a stale one.
    pub stale: u64,
    /// Lookups that found nothing to give.
    pub misses: u64,
    /// Answers put in.
    pub inserted: u64,
    /// Answers that were pushed out for others.
    pub evicted: u64,
    /// Times that a refresh was asked for.
    pub refreshes: u64,
}

impl Cache {
    /// An empty one. `secret`: sixteen random bytes, so that nobody can make names that meet in one place of the table.
    pub fn new(settings: &Settings, secret: [u8; 16]) -> Self {
        let count = settings.shards.clamp(1, 256).next_power_of_two();
        let shard = || Mutex::new(Shard::new(settings.bytes / count, settings.stale, settings.rest));
        Self {
            shards: (0..count).map(|_| shard()).collect(),
            secret: crate::siphash::key(secret),
        }
    }

    /// What there is for this key.
    pub fn get(&self, key: &Key, now: Duration) -> Found {
        let hash = self.hash(key.as_bytes());
        match self.shard(hash) {
            Some(mut shard) => shard.get(hash, key.as_bytes(), millis(now)),
            None => Found::Miss,
        }
    }

    /// Keeps an answer for its lifetime; one without any is only handed back. A failure replaces no better answer.
    pub fn insert(&self, key: &Key, answer: Answer, now: Duration) -> Arc<Answer> {
        let hash = self.hash(key.as_bytes());
        let answer = Arc::new(answer);
        if let Some(mut shard) = self.shard(hash) {
            shard.insert(hash, key.as_bytes(), Arc::clone(&answer), millis(now));
        }
        answer
    }

    /// The upstreams failed: gives what is there, stale as it may be, and for some time lookups give it as well; where
    /// there is nothing, keeps and gives `failure`.
    pub fn failed(&self, key: &Key, failure: Answer, now: Duration) -> (Arc<Answer>, Age) {
        let hash = self.hash(key.as_bytes());
        let kept = self
            .shard(hash)
            .and_then(|mut shard| shard.rest(hash, key.as_bytes(), millis(now)));
        kept.unwrap_or_else(|| (self.insert(key, failure, now), Age::Fresh(0)))
    }

    /// The answer there is, however stale within the bound: for a client that has waited long enough (RFC 8767 §5: 1.8 s).
    pub fn stale(&self, key: &Key, now: Duration) -> Option<Arc<Answer>> {
        let hash = self.hash(key.as_bytes());
        self.shard(hash)?.stale(hash, key.as_bytes(), millis(now))
    }

    /// Forgets everything. How many entries that were.
    pub fn clear(&self) -> usize {
        self.forget(|_| true)
    }

    /// Forgets all types of one name.
    pub fn forget_name(&self, name: &Name) -> usize {
        self.forget(|wire| wire == name.as_wire())
    }

    /// Forgets a name and all below it.
    pub fn forget_zone(&self, zone: &Name) -> usize {
        self.forget(|wire| {
            zone.is_root() || crate::name::suffixes(wire).any(|suffix| suffix == zone.as_wire())
        })
    }

    /// The network is another one: what failed may be asked again, and what is stale is given only where it fails again.
    pub fn forget_failures(&self) {
        for shard in &self.shards {
            lock(shard).forget_failures();
        }
    }

    /// Shows each entry to `see`; holds the lock of one shard at a time.
    pub fn visit(&self, now: Duration, mut see: impl FnMut(Entry)) {
        for shard in &self.shards {
            let shard = lock(shard);
            for (slot, answer) in shard.live() {
                let Some(key) = Key::from_bytes(&slot.key) else {
                    continue;
                };
                see(Entry {
                    question: key.to_question(),
                    dnssec_ok: key.dnssec_ok(),
                    checking_disabled: key.checking_disabled(),
                    answer: Arc::clone(answer),
                    left: seconds(slot.expires - millis(now)),
                    uses: slot.uses,
                });
            }
        }
    }

    /// Figures since the beginning.
    pub fn statistics(&self) -> Statistics {
        self.shards.iter().fold(Statistics::default(), |sum, shard| {
            let shard = lock(shard);
            let one = shard.statistics();
            Statistics {
                entries: sum.entries + one.entries,
                bytes: sum.bytes + one.bytes,
                hits: sum.hits + one.hits,
                stale: sum.stale + one.stale,
                misses: sum.misses + one.misses,
                inserted: sum.inserted + one.inserted,
                evicted: sum.evicted + one.evicted,
                refreshes: sum.refreshes + one.refreshes,
            }
        })
    }

    fn forget(&self, is_meant: impl Fn(&[u8]) -> bool) -> usize {
        let name = |key: &[u8]| {
            key.len()
                .checked_sub(5)
                .and_then(|end| key.get(..end).map(<[u8]>::to_vec))
        };
        let meant = |key: &[u8]| name(key).is_some_and(|wire| is_meant(&wire));
        self.shards.iter().map(|shard| lock(shard).forget(&meant)).sum()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        siphash::<1, 3>(self.secret, key)
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard>> {
        // the table in the shard uses the low bits
        let at = (hash >> 48) as usize & (self.shards.len() - 1);
        self.shards.get(at).map(lock)
    }
}

/// A thread that panicked while it held the lock left the table whole: entries may be lost, none is wrong.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signed, since what was kept across a restart may be older than the clock's beginning.
fn millis(now: Duration) -> i64 {
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX / 2)
}

fn seconds(millis: i64) -> u32 {
    u32::try_from(millis.max(0) / 1000).unwrap_or(u32::MAX)
}

/// Whether an answer is worth keeping across failures and restarts.
fn is_worth(answer: &Answer) -> bool {
    answer.kind() != Kind::Failure
}

#[cfg(test)]
mod tests;
