//! What is remembered, and for whom.

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

fn matter() -> Arc<Matter> {
    Arc::new(Matter::of_nobody("a.example"))
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
        let cleared = matter();
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
        matter: matter(),
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
        matter: matter(),
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
