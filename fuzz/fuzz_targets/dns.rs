//! Any octets are a query, a reason why not, or silence; any octets are a response, or none. What was understood of either
//! is answered, within its size, by a message that is read again.
#![no_main]

use dns_core::wire::{
    Age, Answer, Blocked, Bounds, Key, Manner, Query, Reply, Response, UDP_SIZE, code, minimal_any, refuse,
};
use libfuzzer_sys::fuzz_target;

fn is_answer(out: &[u8], query: &Query, reply: &Reply) {
    assert!(out.len() <= usize::from(reply.limit));
    let response = Response::parse(out).unwrap();
    assert!(response.answers(query.id(), &query.to_question()));
    assert!(response.records().all(|record| record.is_ok()));
}

/// What a client sends.
fn asked(bytes: &[u8]) -> Option<Query> {
    let mut out = Vec::new();
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(unfit) => {
            unfit.write(&mut out);
            assert!(out.is_empty() || out.len() == 12 && bytes.starts_with(&out[..2]));
            return None;
        }
    };
    assert_eq!(
        Key::from_bytes(query.key().as_bytes()).as_ref(),
        Some(query.key())
    );
    assert!(query.as_asked().eq_ignore_ascii_case(query.key().question()) || query.kind() > 0x40);
    for reply in [Reply::datagram(&query, UDP_SIZE), Reply::stream()] {
        for manner in [Manner::NxDomain, Manner::Refused, Manner::Zero] {
            let blocked = Blocked {
                manner,
                extended: 15,
                reason: "a reason",
                ttl: 10,
            };
            blocked.write(&query, &reply, &mut out);
            is_answer(&out, &query, &reply);
        }
        refuse(&query, code::SERVFAIL, Some((0, "another")), &reply, &mut out);
        is_answer(&out, &query, &reply);
        minimal_any(&query, &reply, &mut out);
        is_answer(&out, &query, &reply);
    }
    Some(query)
}

/// What an upstream sends: taken, and given to a client, is the same whenever it is taken again.
fn answered(bytes: &[u8]) {
    let Ok(response) = Response::parse(bytes) else {
        return;
    };
    let _ = (
        response.chain(),
        response.addresses(),
        response.hints(),
        response.extended_error(),
    );
    let key = Key::new(&response.question(), true, false);
    let Ok(answer) = Answer::from_response(&response, &key, &Bounds::default()) else {
        return;
    };
    let message = answer.to_message(&key);
    let again = Response::parse(&message).unwrap();
    assert!(
        again
            .records()
            .all(|record| record.and_then(|record| record.owner()).is_ok())
    );
    let twice = Answer::from_response(&again, &key, &Bounds::default()).unwrap();
    assert_eq!(twice.to_message(&key), message);
    // to a client that asked just that
    let question = response.question();
    let mut asking = [
        &[0u8, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        question.name.as_wire(),
    ]
    .concat();
    asking.extend(question.kind.to_be_bytes());
    asking.extend(question.class.to_be_bytes());
    let Some(query) = asked(&asking) else { return };
    let mut out = Vec::new();
    for (age, reply) in [
        (Age::Fresh(7), Reply::datagram(&query, UDP_SIZE)),
        (Age::Stale, Reply::stream()),
    ] {
        answer.write(&query, age, &reply, &mut out);
        is_answer(&out, &query, &reply);
    }
}

fuzz_target!(|bytes: &[u8]| {
    asked(bytes);
    answered(bytes);
});
