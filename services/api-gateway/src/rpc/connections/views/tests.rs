use api::v1::WatchConnectionsReply;
use proto::{interceptor::v1 as wire, place::Place};

use super::*;
use crate::{hub::Hub, methods::Methods};

/// Connections of these ids, odd ones to port 443.
fn hub(ids: std::ops::RangeInclusive<u64>) -> Hub {
    let hub = Hub::default();
    tell(&hub, ids);
    hub
}

fn tell(hub: &Hub, ids: std::ops::RangeInclusive<u64>) {
    let sequence = *ids.end();
    let event = |id: u64| wire::ConnectionEvent {
        kind: wire::EventKind::Decided.into(),
        time: None,
        connection: Some(wire::Connection {
            id,
            flow: Some(proto::flow::v1::Flow {
                remote_address: vec![192, 0, 2, 1],
                remote_port: if id % 2 == 1 { 443 } else { 80 },
                ..proto::flow::v1::Flow::default()
            }),
            ..wire::Connection::default()
        }),
    };
    hub.told(wire::ConnectionEvents {
        events: ids.map(event).collect(),
        dropped: 0,
        position: Some(wire::Position {
            numbering: 9,
            sequence,
        }),
    });
}

fn view(port: u32, mask: &[&str]) -> View {
    let of = Methods::new()
        .unwrap()
        .message("portmaster.api.v1.Connection")
        .unwrap();
    let filter = ConnectionFilter {
        remote_port: port,
        ..ConnectionFilter::default()
    };
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    View::new(Some(filter), Some(FieldMask { paths }), &of).unwrap()
}

fn read(frame: &Bytes) -> (Vec<u64>, u64, String) {
    assert_eq!(frame[0], 0);
    assert_eq!(
        u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize,
        frame.len() - 5
    );
    let reply = WatchConnectionsReply::decode(message_of(frame)).unwrap();
    let ids = reply
        .events
        .iter()
        .map(|event| event.connection.as_ref().unwrap().id);
    (ids.collect(), reply.dropped, reply.event_id)
}

#[test]
fn what_many_want_alike_is_written_once_and_only_what_they_want() {
    let (hub, views) = (hub(1..=4), Views::default());
    let next = hub.after(None);
    let one = views.frame(&view(443, &["id"]), &next, 0).unwrap();
    let other = views.frame(&view(443, &["id"]), &next, 0).unwrap();
    assert_eq!(one.as_ptr(), other.as_ptr(), "the same octets");
    assert_eq!(read(&one), (vec![1, 3], 0, "9-4".to_owned()));
    let reply = WatchConnectionsReply::decode(message_of(&one)).unwrap();
    assert!(
        reply.events[0].connection.as_ref().unwrap().remote.is_none(),
        "cut"
    );

    // another filter, another mask, and nothing that fits
    let all = views.frame(&view(0, &["id"]), &next, 0).unwrap();
    assert_eq!(read(&all).0, [1, 2, 3, 4]);
    let whole = views.frame(&view(443, &[]), &next, 0).unwrap();
    assert!(whole.len() > one.len());
    assert_eq!(views.frame(&view(22, &[]), &next, 0), None);
    assert_eq!(views.frame(&view(22, &[]), &next, 0), None);
    assert_eq!(views.lock().last.len(), 4);
}

#[test]
fn who_lost_some_or_comes_back_has_a_message_of_his_own() {
    let (hub, views) = (hub(1..=4), Views::default());
    let next = hub.after(None);
    let shared = views.frame(&view(0, &["id"]), &next, 0).unwrap();
    let lost = views.frame(&view(0, &["id"]), &next, 3).unwrap();
    assert_eq!(read(&lost), (vec![1, 2, 3, 4], 3, "9-4".to_owned()));
    let back = hub.after(Some(Place {
        numbering: 9,
        sequence: 2,
    }));
    let back = views.frame(&view(0, &["id"]), &back, 0).unwrap();
    assert_eq!(read(&back), (vec![3, 4], 0, "9-4".to_owned()));
    let again = views.frame(&view(0, &["id"]), &next, 0).unwrap();
    assert_eq!(again.as_ptr(), shared.as_ptr());
    // lost and nothing that fits: it is said all the same
    let nothing = views.frame(&view(22, &[]), &next, 2).unwrap();
    assert_eq!(read(&nothing), (vec![], 2, "9-4".to_owned()));
}

#[test]
fn no_more_is_remembered_than_a_few() {
    let (hub, views) = (hub(1..=1), Views::default());
    // longer than anybody asks
    let (all, long) = (view(0, &[]), view(0, &["id"; 600]));
    let mut place = hub.after(None).place;
    for batch in 1..=1000_u64 {
        tell(&hub, batch * 40 + 1..=batch * 40 + 40);
        let next = hub.after(place);
        place = next.place;
        views.frame(&all, &next, 0);
        views.frame(&long, &next, 0);
    }
    let made = views.lock();
    assert_eq!(made.last.len(), KEPT);
    assert_eq!(made.octets, made.last.iter().map(One::octets).sum::<usize>());
    assert!(made.octets < KEPT_OCTETS);
}
