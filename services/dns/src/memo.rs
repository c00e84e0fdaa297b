//! What was judged a moment ago, so that the same answer for the same program is not judged again for each query.
//!
//! Invariant: holds only for the very policy and lists that it was judged by, and for a second: rules and pauses expire.

use std::{
    any::Any,
    cell::RefCell,
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use dns_core::{Name, wire::Answer};

use crate::{clients::Asker, filter::Judged};

const HOLDS: Duration = Duration::from_secs(1);
/// Of each thread.
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

struct Entry {
    cleared: Cleared,
    until: Instant,
    /// Held, so that nobody else comes to lie where they are.
    _held: (Arc<Asker>, Arc<Answer>),
}

type Anything = Arc<dyn Any + Send + Sync>;

#[derive(Default)]
struct Memo {
    /// What all entries were judged by.
    judged_by: Option<(Anything, Anything)>,
    entries: HashMap<(usize, usize), Entry>,
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
        let (policy, lists) = memo.judged_by.as_ref()?;
        if place(policy) != place(by.0) || place(lists) != place(by.1) {
            return None;
        }
        let entry = memo.entries.get(&(place(asker), place(answer)))?;
        (entry.until > now).then(|| entry.cleared.clone())
    })
}

/// That answer may be given to that program.
pub fn remember<P: Send + Sync + 'static, L: Send + Sync + 'static>(
    by: (&Arc<P>, &Arc<L>),
    asker: &Arc<Asker>,
    answer: &Arc<Answer>,
    cleared: Cleared,
    now: Instant,
) {
    MEMO.with_borrow_mut(|memo| {
        let same = memo
            .judged_by
            .as_ref()
            .is_some_and(|(policy, lists)| place(policy) == place(by.0) && place(lists) == place(by.1));
        if !same || memo.entries.len() >= MOST {
            memo.entries.clear();
            let (policy, lists): (Anything, Anything) = (Arc::<P>::clone(by.0), Arc::<L>::clone(by.1));
            memo.judged_by = Some((policy, lists));
        }
        let entry = Entry {
            cleared,
            until: now + HOLDS,
            _held: (Arc::clone(asker), Arc::clone(answer)),
        };
        memo.entries.insert((place(asker), place(answer)), entry);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use dns_core::wire::Key;
    use verdict::{Decision, Verdict, Why};

    #[test]
    fn another_policy_another_program_and_another_second_are_judged_anew() {
        let question = dns_core::Question {
            name: "a.example".parse().unwrap(),
            kind: 1,
            class: 1,
        };
        let answer = Arc::new(Answer::failure(&Key::new(&question, false, false), 2, 0, "", 5));
        let (policy, lists) = (Arc::new(1), Arc::new("lists"));
        let asker: Arc<Asker> = Arc::default();
        let now = Instant::now();
        let cleared = Cleared {
            name: Arc::new(question.name),
            judged: Arc::new(Judged {
                decision: Decision {
                    verdict: Verdict::Allow,
                    why: Why::DefaultAction,
                    source: "".into(),
                    profile: "".into(),
                    permanent: true,
                },
                list: None,
                by_rule: false,
            }),
            addresses: Arc::default(),
        };
        remember((&policy, &lists), &asker, &answer, cleared, now);
        let known = |policy: &Arc<i32>, asker: &Arc<Asker>, now| {
            look((policy, &lists), asker, &answer, now).is_some()
        };
        assert!(known(&policy, &asker, now));
        assert!(!known(&Arc::new(1), &asker, now));
        assert!(!known(&policy, &Arc::default(), now));
        assert!(!known(&policy, &asker, now + HOLDS));
    }
}
