use proto::interceptor::v1::{self as wire, EventKind};

use super::{ring::BATCH, *};

fn events(
    numbering: u64,
    ids: std::ops::RangeInclusive<u64>,
    kind: EventKind,
    dropped: u64,
) -> ConnectionEvents {
    let sequence = *ids.end();
    let event = |id| wire::ConnectionEvent {
        kind: kind.into(),
        time: None,
        connection: Some(wire::Connection {
            id,
            ..wire::Connection::default()
        }),
    };
    ConnectionEvents {
        events: ids.map(event).collect(),
        dropped,
        position: Some(Position { numbering, sequence }),
    }
}

fn live(ids: std::ops::RangeInclusive<u64>) -> ConnectionEvents {
    let position = None;
    ConnectionEvents {
        position,
        ..events(0, ids, EventKind::Decided, 0)
    }
}

fn ids(next: &Next) -> Vec<u64> {
    next.events()
        .iter()
        .map(|(_, event)| Connection::decode(connection_of(event).unwrap()).unwrap().id)
        .collect()
}

#[test]
fn who_reads_gets_every_event_once() {
    let hub = Hub::default();
    let nothing = hub.after(None);
    assert!(nothing.events().is_empty() && nothing.place.is_none());
    hub.told(events(9, 1..=3, EventKind::Decided, 0));
    let first = hub.after(nothing.place);
    assert_eq!((ids(&first), first.dropped), (vec![1, 2, 3], 0));
    hub.told(events(9, 4..=5, EventKind::Decided, 0));
    let second = hub.after(first.place);
    assert_eq!((ids(&second), second.dropped), (vec![4, 5], 0));
    assert!(hub.after(second.place).events().is_empty());
}

#[test]
fn who_is_too_slow_is_told_how_much_he_lost() {
    let hub = Hub::default();
    hub.told(events(9, 1..=1, EventKind::Decided, 0));
    let place = hub.after(None).place;
    let many = u64::try_from(KEPT).unwrap() + 11;
    hub.told(events(9, 2..=many, EventKind::Decided, 0));
    let (mut place, mut got, mut dropped) = (place, 0, 0);
    loop {
        let next = hub.after(place);
        if next.events().is_empty() {
            break;
        }
        got += next.events().len();
        dropped += next.dropped;
        place = next.place;
    }
    assert_eq!(
        u64::try_from(got).unwrap() + dropped,
        many - 1,
        "each is told or counted"
    );
    assert!((KEPT - BATCH..=KEPT).contains(&got), "{got}");
}

#[test]
fn what_the_interceptor_lost_is_lost_for_all() {
    let hub = Hub::default();
    hub.told(events(9, 1..=2, EventKind::Decided, 0));
    let place = hub.after(None).place;
    hub.told(events(9, 8..=9, EventKind::Decided, 5));
    let next = hub.after(place);
    assert_eq!((ids(&next), next.dropped), (vec![8, 9], 5));
}

#[test]
fn a_new_numbering_is_no_reason_to_say_nothing() {
    let hub = Hub::default();
    hub.told(events(9, 1..=5, EventKind::Decided, 0));
    let place = hub.after(None).place;
    hub.told(events(10, 1..=2, EventKind::Decided, 0));
    let next = hub.after(place);
    assert_eq!((ids(&next), next.dropped), (vec![1, 2], 1));
}

#[test]
fn the_table_is_what_lives_and_begins_anew_with_a_list() {
    let hub = Hub::default();
    hub.request(false);
    hub.take(live(1..=2));
    hub.take(live(3..=4));
    hub.told(events(9, 1..=1, EventKind::Ended, 0));
    let known = |after| {
        hub.live(after)
            .iter()
            .map(|(id, connection)| {
                assert_eq!(Connection::decode(connection.clone()).unwrap().id, *id);
                *id
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(known(0), [2, 3, 4]);
    assert_eq!(known(3), [4]);
    assert_eq!(hub.request(false).resume_after.unwrap().sequence, 1);
    hub.told(events(9, 3..=3, EventKind::Ended, 0));
    assert_eq!(known(0), [2, 4], "it went on: the table stays");
    assert!(hub.request(true).resume_after.is_none());
    hub.take(live(7..=7));
    assert_eq!(known(0), [7]);
}

#[test]
fn who_reads_on_gets_the_same_batches_as_everybody_and_who_comes_back_his_part_of_one() {
    let hub = Hub::default();
    hub.told(events(9, 1..=1, EventKind::Decided, 0));
    let first = hub.after(None);
    hub.take(events(9, 2..=3, EventKind::Decided, 0));
    let place = |sequence| {
        Some(Place {
            numbering: 9,
            sequence,
        })
    };
    assert!(hub.after(first.place).events().is_empty(), "not told yet");
    assert_eq!(hub.begin().1, place(3), "who begins now knows of them already");
    assert_eq!(hub.after(place(3)).place, place(3));
    hub.take(events(9, 4..=6, EventKind::Decided, 0));
    hub.seal();
    let (one, other) = (hub.after(first.place), hub.after(first.place));
    assert_eq!(
        (ids(&one), one.is_whole(), one.place),
        (vec![2, 3, 4, 5, 6], true, place(6))
    );
    assert!(Arc::ptr_eq(&one.batch.unwrap(), &other.batch.unwrap()));
    let part = hub.after(place(3));
    assert_eq!((ids(&part), part.is_whole()), (vec![4, 5, 6], false));

    // a storm closes batches by itself, and is told in pieces
    let many = 6 + u64::try_from(2 * BATCH).unwrap() + 1;
    hub.told(events(9, 7..=many, EventKind::Decided, 0));
    let (mut at, mut sizes) = (place(6), Vec::new());
    loop {
        let next = hub.after(at);
        if next.events().is_empty() {
            break;
        }
        sizes.push((next.events().len(), next.is_whole()));
        at = next.place;
    }
    assert_eq!(sizes, [(BATCH, true), (BATCH, true), (1, true)]);
    assert_eq!(at, place(many));
}
