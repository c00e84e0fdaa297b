//! What was judged a moment ago, so that the same answer for the same program is not judged again for each query.
//!
//! Invariant: holds only for the very policy and lists that it was judged by, and for some seconds: what belongs to which network
//! changes. Where a rule or a pause ends, for one.

use std::{
    any::Any,
    cell::RefCell,
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher as _,
    net::IpAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use dns_core::{
    Name,
    wire::{Answer, Key},
};
use verdict::policy::CompiledPolicy;

use crate::{clients::Asker, filter::Judged};

/// While some rule, or a pause, is going to end.
const HOLDS_SHORT: Duration = Duration::from_secs(1);
/// Else.
const HOLDS: Duration = Duration::from_secs(10);
/// Of each sort, of each thread.
const MOST: usize = 16_384;

/// An answer that may be given as it is.
#[derive(Clone, Debug)]
pub struct Cleared {
    /// What was asked.
    pub name: Arc<Name>,
    /// Why it may.
    pub judged: Arc<Judged>,
    /// What it tells.
    pub addresses: Arc<[IpAddr]>,
}

/// A question that is refused whatever its answer is.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What was asked.
    pub name: Arc<Name>,
    /// Why it may not.
    pub judged: Arc<Judged>,
    /// The same for those who asked.
    pub reason: Arc<str>,
}

struct Entry {
    cleared: Cleared,
    until: Instant,
    /// Held, so that nobody else comes to lie where they are.
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
    entries: HashMap<(usize, usize), Entry>,
    /// By [`Memo::place_of`].
    refusals: HashMap<u64, Refusal>,
    hasher: RandomState,
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
) -> Option<Cleared> {
    MEMO.with_borrow(|memo| {
        let entry = memo.entries.get(&(place(asker), place(answer)))?;
        (entry.until > now && memo.is_by(by)).then(|| entry.cleared.clone())
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
    cleared: Cleared,
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
mod tests {
    use super::*;

    /// Whether it ends.
    struct Policy(bool);

    impl Judges for Policy {
        fn ends(&self) -> bool {
            self.0
        }
    }

    fn question() -> dns_core::Question {
        dns_core::Question {
            name: "a.example".parse().unwrap(),
            kind: 1,
            class: 1,
        }
    }

    #[test]
    fn another_policy_another_program_and_another_time_are_judged_anew() {
        let key = Key::new(&question(), false, false);
        let answer = Arc::new(Answer::failure(&key, 2, 0, "", 5));
        let lists = Arc::new("lists");
        let asker: Arc<Asker> = Arc::default();
        let now = Instant::now();
        for (ends, holds) in [(true, HOLDS_SHORT), (false, HOLDS)] {
            let policy = Arc::new(Policy(ends));
            let cleared = Cleared {
                name: Arc::new(question().name),
                judged: Arc::new(Judged::by_default()),
                addresses: Arc::default(),
            };
            remember((&policy, &lists), &asker, &answer, cleared, now);
            let known = |policy: &Arc<Policy>, asker: &Arc<Asker>, now| {
                look((policy, &lists), asker, &answer, now).is_some()
            };
            assert!(known(&policy, &asker, now));
            assert!(!known(&Arc::new(Policy(ends)), &asker, now));
            assert!(!known(&policy, &Arc::default(), now));
            assert!(!known(&policy, &asker, now + holds));
        }
    }

    #[test]
    fn what_was_judged_by_is_not_kept_alive() {
        let (policy, lists) = (Arc::new(Policy(false)), Arc::new("lists"));
        let key = Key::new(&question(), false, false);
        let refused = Refused {
            name: Arc::new(question().name),
            judged: Arc::new(Judged::by_default()),
            reason: "a list".into(),
        };
        remember_refusal((&policy, &lists), &Arc::default(), &key, refused, Instant::now());
        let left = (Arc::downgrade(&policy), Arc::downgrade(&lists));
        drop((policy, lists));
        assert!(left.0.upgrade().is_none() && left.1.upgrade().is_none());
    }

    #[test]
    fn a_refusal_is_for_this_question_of_this_program_under_this_policy() {
        let key = |kind| Key::new(&dns_core::Question { kind, ..question() }, false, false);
        let (policy, lists) = (Arc::new(Policy(false)), Arc::new("lists"));
        let asker: Arc<Asker> = Arc::default();
        let now = Instant::now();
        let refused = Refused {
            name: Arc::new(question().name),
            judged: Arc::new(Judged::by_default()),
            reason: "a rule".into(),
        };
        remember_refusal((&policy, &lists), &asker, &key(1), refused, now);
        let known = |policy: &Arc<Policy>, asker: &Arc<Asker>, kind, now| {
            look_for_refusal((policy, &lists), asker, &key(kind), now).is_some()
        };
        assert!(known(&policy, &asker, 1, now));
        assert!(!known(&policy, &asker, 28, now));
        assert!(!known(&policy, &Arc::default(), 1, now));
        assert!(!known(&Arc::new(Policy(false)), &asker, 1, now));
        assert!(!known(&policy, &asker, 1, now + HOLDS));
    }
}
