//! What was judged a moment ago, so that the same answer for the same program is not judged again for each query.
//!
//! Invariant: holds only for the very policy and lists that it was judged by, and for some seconds: what belongs to which network
//! changes. Where a rule or a pause ends, for one.

use std::{
    any::Any,
    cell::RefCell,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, BuildHasherDefault, Hasher},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dns_core::wire::{Answer, Key};
use verdict::policy::CompiledPolicy;

use crate::{clients::Asker, log::Matter};

/// While some rule, or a pause, is going to end.
pub(crate) const HOLDS_SHORT: Duration = Duration::from_secs(1);
/// Else.
const HOLDS: Duration = Duration::from_secs(10);
/// Of each sort, of each thread.
const MOST: usize = 16_384;

/// A question that is refused whatever its answer is.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What is refused to whom, and why.
    pub matter: Arc<Matter>,
    /// The reason for those who asked.
    pub reason: Arc<str>,
}

/// An answer that may be given as it is.
struct Entry {
    /// What is told to whom, and why.
    cleared: Arc<Matter>,
    until: Instant,
    /// Held, as the asker is, so that nobody else comes to lie where they are.
    _held: (Arc<Asker>, Arc<Answer>),
}

struct Refusal {
    refused: Refused,
    until: Instant,
    asker: Arc<Asker>,
    key: Box<[u8]>,
}

type Anything = Arc<dyn Any + Send + Sync>;
/// Keeps its place from being another's, and nothing of what was there: lists of a million names are not to outlive the next ones.
type Gone = Weak<dyn Any + Send + Sync>;

#[derive(Default)]
struct Memo {
    /// What all entries were judged by: policy and lists.
    judged_by: Option<(Gone, Gone)>,
    holds: Duration,
    entries: HashMap<(usize, usize), Entry, BuildHasherDefault<Places>>,
    /// By [`Memo::place_of`].
    refusals: HashMap<u64, Refusal, BuildHasherDefault<Places>>,
    hasher: RandomState,
}

/// For places in memory, which nobody outside chooses, and for hashes that are keyed already: a multiplication for each word.
#[derive(Default)]
struct Places(u64);

impl Hasher for Places {
    fn finish(&self) -> u64 {
        // the table uses the highest and the lowest bits
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.write_u64((*octet).into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

impl Memo {
    fn is_by<P, L>(&self, by: (&Arc<P>, &Arc<L>)) -> bool {
        let by = (place(by.0), place(by.1));
        let was = |gone: &Gone| gone.as_ptr().cast::<()>() as usize;
        self.judged_by
            .as_ref()
            .is_some_and(|(policy, lists)| (was(policy), was(lists)) == by)
    }

    /// Makes room, and forgets what was judged by others.
    fn prepare<P: Judges, L: Send + Sync + 'static>(&mut self, by: (&Arc<P>, &Arc<L>)) {
        let is_by_others = !self.is_by(by);
        if is_by_others || self.entries.len() >= MOST {
            self.entries.clear();
        }
        if is_by_others || self.refusals.len() >= MOST {
            self.refusals.clear();
        }
        if is_by_others {
            let (policy, lists): (Anything, Anything) = (Arc::<P>::clone(by.0), Arc::<L>::clone(by.1));
            self.judged_by = Some((Arc::downgrade(&policy), Arc::downgrade(&lists)));
            self.holds = if by.0.ends() { HOLDS_SHORT } else { HOLDS };
        }
    }

    fn place_of(&self, asker: &Arc<Asker>, key: &Key) -> u64 {
        self.hasher.hash_one((place(asker), key.as_bytes()))
    }
}

/// What is judged by.
pub trait Judges: Send + Sync + 'static {
    /// Whether some of it is going to end by itself.
    fn ends(&self) -> bool;
}

impl Judges for CompiledPolicy {
    fn ends(&self) -> bool {
        self.next_expiry(daemon::clock::now()).is_some()
    }
}

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

fn place<T: ?Sized>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).cast::<()>() as usize
}

/// What this thread knows of that answer for that program, under these policy and lists.
pub fn look<P, L>(
    by: (&Arc<P>, &Arc<L>),
    asker: &Arc<Asker>,
    answer: &Arc<Answer>,
    now: Instant,
) -> Option<Arc<Matter>> {
    MEMO.with_borrow(|memo| {
        let entry = memo.entries.get(&(place(asker), place(answer)))?;
        (entry.until > now && memo.is_by(by)).then(|| Arc::clone(&entry.cleared))
    })
}

/// Whether this thread knows that this question of that program is refused, under these policy and lists.
pub fn look_for_refusal<P, L>(
    by: (&Arc<P>, &Arc<L>),
    asker: &Arc<Asker>,
    key: &Key,
    now: Instant,
) -> Option<Refused> {
    MEMO.with_borrow(|memo| {
        let refusal = memo.refusals.get(&memo.place_of(asker, key))?;
        let is_it =
            refusal.until > now && Arc::ptr_eq(&refusal.asker, asker) && *refusal.key == *key.as_bytes();
        (is_it && memo.is_by(by)).then(|| refusal.refused.clone())
    })
}

/// That answer may be given to that program.
pub fn remember<P: Judges, L: Send + Sync + 'static>(
    by: (&Arc<P>, &Arc<L>),
    asker: &Arc<Asker>,
    answer: &Arc<Answer>,
    cleared: Arc<Matter>,
    now: Instant,
) {
    MEMO.with_borrow_mut(|memo| {
        memo.prepare(by);
        let entry = Entry {
            cleared,
            until: now + memo.holds,
            _held: (Arc::clone(asker), Arc::clone(answer)),
        };
        memo.entries.insert((place(asker), place(answer)), entry);
    });
}

/// This question of that program is refused.
pub fn remember_refusal<P: Judges, L: Send + Sync + 'static>(
    by: (&Arc<P>, &Arc<L>),
    asker: &Arc<Asker>,
    key: &Key,
    refused: Refused,
    now: Instant,
) {
    MEMO.with_borrow_mut(|memo| {
        memo.prepare(by);
        let refusal = Refusal {
            refused,
            until: now + memo.holds,
            asker: Arc::clone(asker),
            key: key.as_bytes().into(),
        };
        let place = memo.place_of(asker, key);
        memo.refusals.insert(place, refusal);
    });
}

#[cfg(test)]
mod tests;
