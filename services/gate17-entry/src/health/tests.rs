use proptest::prelude::*;

use super::*;
use crate::blame::{CERTAIN, LIKELY, Seen};

fn id(text: &str) -> NodeId {
    NodeId(text.to_owned())
}

#[test]
fn a_node_that_failed_is_avoided_and_forgiven() {
    let (nodes, now, node) = (Nodes::default(), Instant::now(), id("alpha"));
    assert_eq!(nodes.of(&node, now), Health::default());
    nodes.failed(
        std::slice::from_ref(&node),
        &Fault::new(0, Seen::NotReached, "gone"),
        now,
    );
    assert!(nodes.is_avoided(&node, now));
    assert_eq!(nodes.problem(&node, now), "gone");
    let later = now + Duration::from_secs(600);
    assert!(nodes.of(&node, later).trouble < 0.1);
    assert_eq!(nodes.problem(&node, later), "");
}

#[test]
fn of_two_suspects_the_one_that_does_it_again_with_others_is_avoided() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let fault = Fault::new(1, Seen::NotReached, "connection_refused");
    for next in ["beta", "gamma"] {
        nodes.failed(&[id("alpha"), id(next)], &fault, now);
    }
    assert!(nodes.is_avoided(&id("alpha"), now));
    assert!(!nodes.is_avoided(&id("beta"), now) && !nodes.is_avoided(&id("gamma"), now));
    assert!(nodes.problem(&id("alpha"), now).contains("gamma"));
}

#[test]
fn a_break_that_ends_many_circuits_is_one_failure() {
    let (nodes, now, hops) = (Nodes::default(), Instant::now(), [id("alpha"), id("beta")]);
    let cut = Fault::new(0, Seen::Cut, "gone");
    for _ in 0..20 {
        nodes.failed(&hops, &cut, now);
    }
    assert!(!nodes.is_avoided(&hops[0], now), "it may be this host's network");
    nodes.failed(&hops, &cut, now + ONCE);
    assert!(nodes.is_avoided(&hops[0], now + ONCE));
    assert_eq!(nodes.of(&hops[1], now), Health::default());
}

#[test]
fn a_relay_that_silences_one_after_another_is_found_and_they_are_cleared() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let silent = Fault::new(1, Seen::Silent, "it does not answer");
    nodes.failed(&[id("relay"), id("beta")], &silent, now);
    assert!(nodes.is_avoided(&id("beta"), now) && !nodes.is_avoided(&id("relay"), now));
    let later = now + Duration::from_secs(30);
    for _ in 0..20 {
        nodes.failed(&[id("relay"), id("gamma")], &silent, later);
    }
    assert!(nodes.is_avoided(&id("relay"), later));
    assert!(nodes.of(&id("relay"), later).trouble < 0.8, "it is one failure");
    assert!(nodes.problem(&id("relay"), later).contains("gamma"));
    for other in ["beta", "gamma"] {
        assert!(nodes.of(&id(other), later).trouble < 0.1, "{other}");
    }
}

#[test]
fn a_relay_that_keeps_from_a_node_what_another_relay_reaches_is_found() {
    let (nodes, now) = (Nodes::default(), Instant::now());
    let key = Fault::new(1, Seen::WrongKey, "its key is none");
    nodes.failed(&[id("relay"), id("gamma")], &key, now);
    assert!(!nodes.is_avoided(&id("relay"), now) && !nodes.is_avoided(&id("gamma"), now));
    nodes.stood(&[id("beta"), id("gamma")], now);
    assert!(nodes.is_avoided(&id("relay"), now));
    assert!(nodes.of(&id("gamma"), now).trouble < 0.1);
    assert_eq!(nodes.of(&id("beta"), now).trouble, 0.0);
}

#[test]
fn one_slow_answer_does_not_make_a_node_slow() {
    let (nodes, now, node) = (Nodes::default(), Instant::now(), id("alpha"));
    nodes.measured(&node, Duration::from_millis(10));
    nodes.measured(&node, Duration::from_millis(50));
    assert_eq!(nodes.of(&node, now).round_trip, Some(Duration::from_millis(20)));
}

#[test]
fn where_a_node_answered_is_remembered_for_us_and_for_others() {
    let (nodes, node) = (Nodes::default(), id("alpha"));
    let (v4, v6) = (
        "192.0.2.1:443".parse().unwrap(),
        "[2001:db8::1]:443".parse().unwrap(),
    );
    nodes.answered(&node, false, v4);
    nodes.answered(&node, true, v6);
    assert_eq!(nodes.answers_at(&node, false), Some(v4));
    assert_eq!(nodes.answers_at(&node, true), Some(v6));
}

#[derive(Clone, Debug)]
enum Event {
    Blamed(f64),
    Well,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        prop_oneof![Just(CERTAIN), Just(LIKELY), 0.0..1.0].prop_map(Event::Blamed),
        Just(Event::Well),
        (0_u64..10_000).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn trouble_stays_between_nothing_and_all_and_moves_the_way_it_should(events in prop::collection::vec(event(), 0..64)) {
        let (mut standing, mut now) = (Standing::default(), Instant::now());
        for event in events {
            let before = standing.trouble(now);
            match event {
                Event::Blamed(weight) => {
                    standing.blamed(weight, "", now);
                    prop_assert!(standing.trouble(now) >= before);
                    prop_assert!(standing.trouble(now) >= weight - 1e-9);
                }
                Event::Well => {
                    standing.did_well(now);
                    prop_assert!(standing.trouble(now) <= before);
                }
                Event::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    prop_assert!(standing.trouble(now) <= before);
                }
            }
            prop_assert!((0.0..=1.0).contains(&standing.trouble(now)));
        }
        prop_assert!(standing.trouble(now + Duration::from_secs(86_400)) < 1e-9);
    }

    #[test]
    fn what_is_forgotten_does_not_depend_on_when_it_was_looked_at(first in 0_u64..1000, second in 0_u64..1000) {
        let (mut looked, began) = (Standing::default(), Instant::now());
        looked.blamed(CERTAIN, "", began);
        let other = looked.clone();
        looked.blamed(0.0, "", began + Duration::from_secs(first));
        let end = began + Duration::from_secs(first + second);
        prop_assert!((looked.trouble(end) - other.trouble(end)).abs() < 1e-9);
    }
}
