//! Messages of real programs (dig, kdig, drill, delv, the C library; nsd, unbound, dnsmasq), as they were on the wire, and
//! malformed ones: what we make of them is what another implementation makes of them.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{collections::BTreeSet, fs, path::Path};

use dns_core::wire::{
    Age, Answer, Blocked, Bounds, Key, Manner, Query, Reply, Response, UDP_SIZE, code, minimal_any, refuse,
};
use hickory_proto::{op::Message, rr::Record};

/// Name, octets. `real-q-…` are queries, `real-a-…` answers; the others may be anything.
fn corpus(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dns");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut all: Vec<_> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    all.sort();
    all
}

/// As the other one understands it. In small letters; times to live are left out, since ours are bounded.
fn records<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeSet<String> {
    records
        .into_iter()
        .map(|record| {
            let (name, kind) = (record.name.to_string(), record.record_type());
            format!("{} {kind} {}", name, record.data).to_lowercase()
        })
        .collect()
}

/// A client that asks just that, as one would that wants signatures.
fn asking(response: &Response<'_>) -> Query {
    let mut message = vec![0x17, 0x35, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(response.question_bytes());
    // OPT: the root, its type, 4096 octets, DO
    message.extend([0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 0]);
    Query::parse(&message).unwrap()
}

#[test]
fn real_queries_are_read_as_others_read_them() {
    let all = corpus("real-q-");
    assert!(all.len() >= 15, "{}", all.len());
    for (name, octets) in all {
        let theirs = Message::from_vec(&octets).unwrap_or_else(|error| panic!("{name}: {error}"));
        let asked = theirs.queries.first().unwrap();
        let ours = Query::parse(&octets).unwrap_or_else(|unfit| panic!("{name}: {unfit:?}"));
        assert_eq!(ours.id(), theirs.metadata.id, "{name}");
        assert_eq!(ours.kind(), u16::from(asked.query_type), "{name}");
        assert_eq!(ours.class(), u16::from(asked.query_class), "{name}");
        assert_eq!(
            ours.to_question().name.to_string(),
            asked.name.to_lowercase().to_string().trim_end_matches('.'),
            "{name}"
        );
        assert_eq!(
            ours.recursion_desired(),
            theirs.metadata.recursion_desired,
            "{name}"
        );
        assert_eq!(
            ours.checking_disabled(),
            theirs.metadata.checking_disabled,
            "{name}"
        );
        let edns = theirs.edns.as_ref();
        assert_eq!(ours.edns().is_some(), edns.is_some(), "{name}");
        assert_eq!(
            ours.dnssec_ok(),
            edns.is_some_and(|edns| edns.flags().dnssec_ok),
            "{name}"
        );
    }
}

#[test]
fn real_answers_are_kept_and_given_without_a_record_lost_or_made_up() {
    let all = corpus("real-a-");
    assert!(all.len() >= 40, "{}", all.len());
    let mut kept = 0;
    for (name, octets) in all {
        let theirs = Message::from_vec(&octets).unwrap_or_else(|error| panic!("{name}: {error}"));
        let response = Response::parse(&octets).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(response.records().all(|record| record.is_ok()), "{name}");
        assert_eq!(response.is_truncated(), theirs.metadata.truncation, "{name}");
        let asked = theirs.queries.first().unwrap();
        assert_eq!(
            response.question().name.to_string(),
            asked.name.to_lowercase().to_string().trim_end_matches('.'),
            "{name}"
        );
        let query = asking(&response);
        let key = Key::new(&response.question(), true, false);
        let Ok(answer) = Answer::from_response(&response, &key, &Bounds::default()) else {
            continue;
        };
        kept += 1;
        let mut out = Vec::new();
        answer.write(&query, Age::Fresh(0), &Reply::stream(), &mut out);
        let given = Message::from_vec(&out).unwrap_or_else(|error| panic!("{name}: {error}"));
        let code = given.metadata.response_code;
        assert_eq!(code.low(), theirs.metadata.response_code.low(), "{name}");
        let (had, has) = (records(&theirs.answers), records(&given.answers));
        assert!(has.is_subset(&had), "{name}: {has:?} of {had:?}");
        // all of it where there is an answer at all, be it that there is none
        if answer.code() == code::NOERROR {
            assert_eq!(has, had, "{name}");
        }
    }
    assert!(kept >= 30, "{kept}");
}

/// Whatever of the corpus, malformed or not, is a query for us: each answer that we give to it is a message for others.
#[test]
fn whatever_is_answered_is_answered_by_a_message() {
    let mut answered = 0;
    for (name, octets) in corpus("") {
        let Ok(query) = Query::parse(&octets) else {
            continue;
        };
        answered += 1;
        for reply in [Reply::datagram(&query, UDP_SIZE), Reply::stream()] {
            let mut all = vec![Vec::new(); 5];
            for (manner, out) in [Manner::NxDomain, Manner::Refused, Manner::Zero]
                .into_iter()
                .zip(&mut all)
            {
                let blocked = Blocked {
                    manner,
                    extended: 15,
                    reason: "a reason",
                    ttl: 10,
                };
                blocked.write(&query, &reply, out);
            }
            refuse(&query, code::SERVFAIL, Some((0, "another")), &reply, &mut all[3]);
            minimal_any(&query, &reply, &mut all[4]);
            for out in all {
                let read =
                    Message::from_vec(&out).unwrap_or_else(|error| panic!("{name}: {error}: {out:02x?}"));
                assert_eq!(read.metadata.id, query.id(), "{name}");
                assert_eq!(read.queries.len(), 1, "{name}");
            }
        }
    }
    assert!(answered >= 20, "{answered}");
}
