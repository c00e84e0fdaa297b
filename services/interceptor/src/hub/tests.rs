use std::{net::IpAddr, time::SystemTime};

use verdict::{Decision, Direction, Endpoint, Flow, Protocol, Verdict, Why};

use super::*;
use crate::judge::Attribution;

fn event(id: u64, kind: EventKind) -> Event {
    let end = |octet, port| Endpoint::new(IpAddr::from([198, 18, 0, octet]), port);
    let flow = Flow {
        direction: Direction::Outgoing,
        protocol: Protocol::TCP,
        local: end(1, 4000),
        remote: end(2, 443),
    };
    let connection = Connection {
        id,
        flow,
        scope: flow.scope(),
        started: SystemTime::UNIX_EPOCH,
        who: Arc::new(Attribution::default()),
        domain: Some("example.org".into()),
        decision: Decision {
            verdict: Verdict::Allow,
            why: Why::DefaultAction,
            source: "global#default_action".into(),
            profile: "".into(),
            permanent: true,
        },
        through: None,
        totals: None,
    };
    Event {
        kind,
        time: SystemTime::UNIX_EPOCH,
        connection,
    }
}

/// A new connection.
pub(crate) fn decided(id: u64) -> Event {
    event(id, EventKind::Decided)
}

fn ids(messages: &mut mpsc::Receiver<ConnectionEvents>) -> (u64, Vec<u64>, Position) {
    let (mut dropped, mut ids, mut position) = (0, Vec::new(), Position::default());
    while let Ok(message) = messages.try_recv() {
        dropped += message.dropped;
        ids.extend(
            message
                .events
                .into_iter()
                .map(|event| event.connection.unwrap_or_default().id),
        );
        position = message.position.unwrap_or(position);
    }
    (dropped, ids, position)
}

#[test]
fn who_comes_back_goes_on_where_it_was() {
    let hub = Hub::new(None, Vec::new(), 17);
    let mut first = hub.subscribe(false, None);
    hub.take(&[event(1, EventKind::Decided), event(2, EventKind::Decided)]);
    let (_, seen, place) = ids(&mut first);
    assert_eq!((seen, place.sequence), (vec![1, 2], 2));
    // it is away, and not yet missed
    hub.take(&[event(3, EventKind::Decided)]);
    hub.take(&[event(4, EventKind::Decided), event(5, EventKind::Decided)]);
    drop(first);
    let mut again = hub.subscribe(true, Some(Position { sequence: 3, ..place }));
    let (dropped, seen, place) = ids(&mut again);
    assert_eq!((dropped, seen, place.sequence), (0, vec![4, 5], 5));
}

#[test]
fn what_is_no_longer_known_counts_as_dropped() {
    let hub = Hub::new(None, Vec::new(), 17);
    let _somebody = hub.subscribe(false, None);
    for id in 0..RECENT as u64 + 10 {
        hub.take(&[event(id, EventKind::Decided)]);
    }
    let place = Position {
        numbering: 17,
        sequence: 4,
    };
    let (dropped, seen, _) = ids(&mut hub.subscribe(false, Some(place)));
    assert_eq!((dropped, seen.len()), (6, RECENT));
}

#[test]
fn another_numbering_is_another_beginning() {
    let hub = Hub::new(None, Vec::new(), 17);
    hub.take(&[event(1, EventKind::Decided), event(2, EventKind::Decided)]);
    hub.take(&[event(1, EventKind::Ended)]);
    let place = Position {
        numbering: 16,
        sequence: 1,
    };
    assert_eq!(ids(&mut hub.subscribe(true, Some(place))).1, [2]);
    assert_eq!(ids(&mut hub.subscribe(false, Some(place))).1, [0_u64; 0]);
}

#[test]
fn the_journal_tells_the_next_process_all() {
    let hub = Hub::new(None, Vec::new(), 17);
    let mut listener = hub.subscribe(false, None);
    hub.take(&[event(1, EventKind::Decided), event(2, EventKind::Decided)]);
    hub.take(&[event(1, EventKind::Ended), event(3, EventKind::Decided)]);
    let mut records = vec![ConnectionEvents {
        position: Some(Position {
            numbering: 17,
            sequence: 0,
        }),
        ..ConnectionEvents::default()
    }];
    while let Ok(message) = listener.try_recv() {
        records.extend((!message.events.is_empty()).then_some(message));
    }
    let mut inner = Hub::new(None, Vec::new(), 18).inner;
    let next = Arc::get_mut(&mut inner).unwrap().get_mut().unwrap();
    next.replay(records);
    assert_eq!(
        next.position,
        Position {
            numbering: 17,
            sequence: 4
        }
    );
    let live: Vec<_> = next
        .sorted_live()
        .into_iter()
        .map(|connection| (connection.id, connection.domain.clone()))
        .collect();
    let domain = || Some(Arc::from("example.org"));
    assert_eq!(live, [(2, domain()), (3, domain())]);
    let place = Position {
        numbering: 17,
        sequence: 1,
    };
    assert_eq!(ids(&mut Hub { inner }.subscribe(false, Some(place))).1, [2, 1, 3]);
}

#[test]
fn a_journal_that_was_written_anew_tells_the_same() {
    let hub = Hub::new(Some((Journal::unkept(), Vec::new())), Vec::new(), 17);
    // one lives on, the others are over at once; until the journal was too long
    hub.take(&[event(1, EventKind::Decided)]);
    let mut last = 1;
    while !hub.lock().journal.as_ref().unwrap().was_written_anew() {
        let batch: Vec<_> = (last + 1..last + 100)
            .flat_map(|id| [event(id, EventKind::Decided), event(id, EventKind::Ended)])
            .collect();
        hub.take(&batch);
        last += 99;
    }
    let records = hub.lock().journal.as_ref().unwrap().records();
    let mut next = Hub::new(None, Vec::new(), 18).inner;
    let next = Arc::get_mut(&mut next).unwrap().get_mut().unwrap();
    next.replay(records);
    assert_eq!(next.position, hub.lock().position);
    let live: Vec<_> = next.live.keys().copied().collect();
    assert_eq!(live, [1]);
}

/// A record of what was written down ahead, with the number of its last event.
fn ahead(sequence: u64, events: &[Event]) -> ConnectionEvents {
    ConnectionEvents {
        events: events.iter().map(wire::event).collect(),
        dropped: 0,
        position: Some(Position {
            numbering: 17,
            sequence,
        }),
    }
}

#[test]
fn what_a_killed_process_wrote_down_ahead_of_its_journal_is_told() {
    let hub = Hub::new(Some((Journal::unkept(), Vec::new())), Vec::new(), 17);
    let mut listener = hub.subscribe(false, None);
    hub.take(&[decided(1), decided(2)]);
    let (_, _, place) = ids(&mut listener);
    let before = hub.lock().journal.as_ref().unwrap().records();
    let records = vec![
        // in the journal already, all of it and half of it
        ahead(1, &[decided(1)]),
        ahead(3, &[decided(2), decided(3)]),
        ahead(4, &[event(2, EventKind::Ended)]),
        ConnectionEvents {
            position: Some(Position {
                numbering: 16,
                sequence: 9,
            }),
            ..ahead(9, &[decided(9)])
        },
    ];
    let next = Hub::new(Some((Journal::unkept(), before)), records, 18);
    let (dropped, seen, place) = ids(&mut next.subscribe(false, Some(place)));
    assert_eq!((dropped, seen, place.sequence), (0, vec![3, 2], 4));
    assert_eq!(next.position(), place);
    let live: Vec<u64> = next.live().iter().map(|connection| connection.id).collect();
    assert_eq!(live, [1, 3]);
    // and is in the new process's journal
    let again = next.lock().journal.as_ref().unwrap().records();
    assert_eq!(again.last().unwrap().position, Some(place));
}
