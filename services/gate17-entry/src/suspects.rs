//! Failures between two nodes, of which either could be the reason: who has a part in those with several others is the one,
//! and they are cleared. So a relay cannot have its neighbours avoided one after another by what it does itself.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use gate17_proto::{map::NodeId, trouble::HALF_LIFE};

/// Failures are told apart for as long as they are held against anybody.
const MEMORY: Duration = Duration::from_secs(5 * HALF_LIFE.as_secs());
/// What stands through another a moment later stood all the time.
const PROOF: Duration = Duration::from_secs(30);
/// Failures that are remembered.
const MOST: usize = 128;

/// A failure between two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    before: NodeId,
    after: NodeId,
    when: Instant,
    /// One of the two told an untruth: no node that comes back a moment later explains it.
    untrue: bool,
    /// One of them was cleared of it.
    settled: bool,
}

/// Whose failures they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It cannot be told.
    Either,
    /// The first of the two: it failed with several others.
    Before(Vec<Cleared>),
    /// The second of the two.
    After(Vec<Cleared>),
}

/// It failed at this time.
pub type Cleared = (NodeId, Instant);

/// What is remembered.
#[derive(Clone, Debug, Default)]
pub struct Suspects(VecDeque<Pair>);

impl Suspects {
    /// It failed between these two; `untrue`: not for want of an answer, but by a wrong one.
    pub fn note(&mut self, before: &NodeId, after: &NodeId, untrue: bool, now: Instant) -> Found {
        let same = |pair: &Pair| pair.before == *before && pair.after == *after;
        self.0
            .retain(|pair| now.saturating_duration_since(pair.when) < MEMORY && !same(pair));
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        let (befores, afters) = (self.before(after), self.after(before));
        let found = match (befores.len(), afters.len()) {
            (0, 0) => Found::Either,
            (one, other) if one >= other => Found::After(self.cleared(befores, |pair| &pair.before)),
            _ => Found::Before(self.cleared(afters, |pair| &pair.after)),
        };
        self.0.push_back(Pair {
            before: before.clone(),
            after: after.clone(),
            when: now,
            untrue,
            settled: false,
        });
        found
    }

    /// `after` can be reached through `before`: through whom somebody else was there just now is found, and `after` cleared.
    pub fn stood(&mut self, before: &NodeId, after: &NodeId, now: Instant) -> Vec<Cleared> {
        let mut found = Vec::new();
        for pair in &mut self.0 {
            let is_of_another = pair.after == *after && pair.before != *before;
            let is_lately = now.saturating_duration_since(pair.when) < PROOF;
            if is_of_another && is_lately && pair.untrue && !pair.settled {
                pair.settled = true;
                found.push((pair.before.clone(), pair.when));
            }
        }
        found
    }

    /// Who stood before it when it failed.
    fn before(&self, after: &NodeId) -> Vec<NodeId> {
        let pairs = self.0.iter().filter(|pair| pair.after == *after);
        pairs.map(|pair| pair.before.clone()).collect()
    }

    /// Who stood behind it.
    fn after(&self, before: &NodeId) -> Vec<NodeId> {
        let pairs = self.0.iter().filter(|pair| pair.before == *before);
        pairs.map(|pair| pair.after.clone()).collect()
    }

    /// Those of `others` that failed with one alone, and were not cleared of it yet; `which` of the two they are.
    fn cleared(&mut self, others: Vec<NodeId>, which: fn(&Pair) -> &NodeId) -> Vec<Cleared> {
        let mut cleared = Vec::new();
        for node in others {
            let mut pairs = self.0.iter_mut().filter(|pair| *which(pair) == node);
            if let (Some(pair), None) = (pairs.next(), pairs.next())
                && !pair.settled
            {
                pair.settled = true;
                cleared.push((node, pair.when));
            }
        }
        cleared
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> NodeId {
        NodeId(text.to_owned())
    }

    fn names(found: Found) -> (bool, Vec<String>) {
        match found {
            Found::Either => panic!("it can be told"),
            Found::Before(cleared) => (true, cleared.into_iter().map(|(node, _)| node.0).collect()),
            Found::After(cleared) => (false, cleared.into_iter().map(|(node, _)| node.0).collect()),
        }
    }

    #[test]
    fn who_fails_with_two_others_is_the_one_and_they_are_cleared() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        for _ in 0..3 {
            assert_eq!(suspects.note(&id("r"), &id("a"), true, now), Found::Either);
        }
        let found = names(suspects.note(&id("r"), &id("b"), true, now));
        assert_eq!(found, (true, vec!["a".to_owned()]));
        let again = names(suspects.note(&id("r"), &id("b"), true, now));
        assert_eq!(again, (true, vec![]), "once");
        let mut suspects = Suspects::default();
        suspects.note(&id("r"), &id("a"), true, now);
        let found = names(suspects.note(&id("s"), &id("a"), true, now));
        assert_eq!(found, (false, vec!["r".to_owned()]));
    }

    #[test]
    fn who_failed_with_somebody_else_too_is_not_cleared() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        suspects.note(&id("r"), &id("a"), true, now);
        suspects.note(&id("s"), &id("a"), true, now);
        let found = names(suspects.note(&id("r"), &id("b"), true, now));
        assert_eq!(found, (true, vec![]));
    }

    #[test]
    fn who_could_not_reach_what_another_reaches_is_found_once() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        suspects.note(&id("r"), &id("a"), true, now);
        assert_eq!(suspects.stood(&id("r"), &id("a"), now), [], "it came back itself");
        assert_eq!(suspects.stood(&id("s"), &id("b"), now), []);
        assert_eq!(suspects.clone().stood(&id("s"), &id("a"), now + PROOF), []);
        assert_eq!(suspects.stood(&id("s"), &id("a"), now), [(id("r"), now)]);
        assert_eq!(suspects.stood(&id("s"), &id("a"), now), []);
        suspects.note(&id("t"), &id("c"), false, now);
        assert_eq!(
            suspects.stood(&id("s"), &id("c"), now),
            [],
            "it may have come back"
        );
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let now = Instant::now();
        let mut suspects = Suspects::default();
        suspects.note(&id("r"), &id("a"), true, now);
        assert_eq!(
            suspects.note(&id("r"), &id("b"), true, now + MEMORY),
            Found::Either
        );
    }

    proptest! {
        #[test]
        fn it_stays_small_and_one_alone_is_never_found(pairs in prop::collection::vec((0..200_u8, 0..200_u8), 1..400)) {
            let now = Instant::now();
            let mut suspects = Suspects::default();
            for (before, after) in &pairs {
                suspects.note(&id(&before.to_string()), &id(&after.to_string()), true, now);
                prop_assert!(suspects.0.len() <= MOST);
            }
            let (before, after) = (id("new"), id("newer"));
            prop_assert_eq!(suspects.note(&before, &after, true, now), Found::Either);
        }
    }
}
