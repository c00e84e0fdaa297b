use proptest::prelude::*;

use super::*;
use crate::Name;

/// A query: flags, name, type, and what stands behind the question.
fn query(flags: u16, name: &str, kind: u16, opt: Option<&[u8]>) -> Vec<u8> {
    let additional = u16::from(opt.is_some());
    let mut message = [0x1234, flags, 1, 0, 0, additional]
        .map(u16::to_be_bytes)
        .as_flattened()
        .to_vec();
    message.extend_from_slice(&wire_name(name));
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&1u16.to_be_bytes());
    message.extend_from_slice(opt.unwrap_or_default());
    message
}

/// In the letters given.
fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut wire: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    wire.push(0);
    wire
}

/// An OPT record: size, flags byte, version, options.
fn opt(size: u16, dnssec: bool, version: u8, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap().to_be_bytes();
    let head = [0, 0, 41];
    [
        &head[..],
        &size.to_be_bytes(),
        &[0, version, u8::from(dnssec) << 7, 0],
        &length,
        options,
    ]
    .concat()
}

/// A record with an uncompressed owner.
fn record(owner: &str, kind: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
    [
        &wire_name(owner)[..],
        &kind.to_be_bytes(),
        &[0, 1],
        &ttl.to_be_bytes(),
        &length,
        rdata,
    ]
    .concat()
}

fn soa(owner: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers = [1, 2, 3, 4, minimum].map(u32::to_be_bytes);
    record(
        owner,
        kind::SOA,
        ttl,
        &[
            &wire_name("ns.x")[..],
            &wire_name("post.x"),
            numbers.as_flattened(),
        ]
        .concat(),
    )
}

fn response(name: &str, kind: u16, code: u16, parts: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let [a, b, c] = parts.map(|part| part.len() as u16);
    let mut message = [0, 0x8180 | code, 1, a, b, c]
        .map(u16::to_be_bytes)
        .as_flattened()
        .to_vec();
    message.extend_from_slice(&wire_name(name));
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message.extend(parts.into_iter().flatten().flatten());
    message
}

fn taken(query: &Query, message: &[u8]) -> Answer {
    Answer::from_response(
        &Response::parse(message).unwrap(),
        query.key(),
        &Bounds::default(),
    )
    .unwrap()
}

fn parse(message: &[u8]) -> Query {
    Query::parse(message).unwrap()
}

#[test]
fn a_query_is_read_with_its_edns() {
    let options = [
        &[0u8, 10, 0, 8][..],
        &[7; 8],
        &[0, 8, 0, 4, 0, 1, 0, 0],
        &[0, 11, 0, 0],
    ]
    .concat();
    let read = parse(&query(
        0x0110,
        "wWw.Example.ORG",
        28,
        Some(&opt(4096, true, 0, &options)),
    ));
    assert_eq!(read.id(), 0x1234);
    assert_eq!(read.to_question().name.to_string(), "www.example.org");
    assert!(read.as_asked().starts_with(b"\x03wWw\x07Example\x03ORG\0"));
    assert!(read.recursion_desired() && read.checking_disabled() && read.dnssec_ok());
    let edns = read.edns().unwrap();
    assert_eq!(
        (edns.size, edns.keepalive, edns.cookie.unwrap().client),
        (4096, true, [7; 8])
    );
    assert_eq!(Key::from_bytes(read.key().as_bytes()).as_ref(), Some(read.key()));
    assert_eq!(&Key::new(&read.to_question(), true, true), read.key());
    assert_eq!(read.refused_with(), None);
}

#[test]
fn what_is_no_query_gets_an_error_or_silence() {
    let good = query(0x0100, "a.b", 1, None);
    let code = |message: &[u8]| match Query::parse(message) {
        Err(Unfit::Error { code, .. }) => Some(code),
        Err(Unfit::Silence) => None,
        Ok(_) => panic!("it was read"),
    };
    assert_eq!(code(&good[..11]), None);
    assert_eq!(code(&query(0x8100, "a.b", 1, None)), None, "a response");
    assert_eq!(code(&query(0x2800, "a.b", 1, None)), Some(code::NOTIMP));
    assert_eq!(code(&good[..good.len() - 1]), Some(code::FORMERR));
    let mut two = good.clone();
    two[5] = 2;
    assert_eq!(code(&two), Some(code::FORMERR));
    let mut pointer = good;
    pointer[HEADER] = 0xc0;
    assert_eq!(code(&pointer), Some(code::FORMERR));
    let bad_cookie = opt(1232, false, 0, &[0, 10, 0, 3, 1, 2, 3]);
    assert_eq!(
        code(&query(0x0100, "a.b", 1, Some(&bad_cookie))),
        Some(code::FORMERR)
    );
    let mut out = Vec::new();
    Unfit::Error {
        id: 9,
        flags: 0x2900,
        code: 4,
    }
    .write(&mut out);
    assert_eq!(out, [0, 9, 0xa9, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_no_resolver_resolves_is_refused() {
    assert_eq!(
        parse(&query(0x0100, "a", 1, Some(&opt(1232, false, 1, &[])))).refused_with(),
        Some(16)
    );
    assert_eq!(
        parse(&query(0x0100, "a", 252, None)).refused_with(),
        Some(code::REFUSED)
    );
    assert_eq!(
        parse(&query(0x0100, "a", 41, None)).refused_with(),
        Some(code::FORMERR)
    );
    let mut chaos = query(0x0100, "version.bind", 16, None);
    let last = chaos.len() - 1;
    chaos[last] = 3;
    assert_eq!(parse(&chaos).refused_with(), Some(code::REFUSED));
    let query = parse(&query(0x0100, "a", 1, Some(&opt(1232, false, 1, &[]))));
    let mut out = Vec::new();
    refuse(
        &query,
        code::BADVERS,
        None,
        &Reply::datagram(&query, 1232),
        &mut out,
    );
    assert_eq!(Response::parse(&out).unwrap().code(), code::BADVERS);
}

#[test]
fn an_answer_repeats_the_clients_letters_and_ages() {
    let asked = parse(&query(0x0100, "WWW.example.org", 1, None));
    let message = response(
        "www.example.org",
        1,
        0,
        [
            &[
                record("cdn.net", 1, 60, &[192, 0, 2, 2]),
                record("www.example.org", 5, 300, &wire_name("cdn.net")),
                record("other.org", 1, 60, &[6, 6, 6, 6]),
            ],
            &[record("example.org", 2, 60, &wire_name("ns.example.org"))],
            &[record("ns.example.org", 1, 60, &[6, 6, 6, 6])],
        ],
    );
    let answer = taken(&asked, &message);
    assert_eq!((answer.kind(), answer.lifetime()), (Kind::Positive, 60));
    let mut out = Vec::new();
    let written = answer.write(&asked, Age::Fresh(20), &Reply::datagram(&asked, 1232), &mut out);
    assert_eq!(written, Written::Whole);
    assert!(out[HEADER..].starts_with(b"\x03WWW\x07example\x03org\0"));
    let read = Response::parse(&out).unwrap();
    assert!(read.answers(0x1234, &asked.to_question()));
    let chain: Vec<String> = read.chain().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(chain, ["www.example.org", "cdn.net"]);
    let records: Vec<_> = read.records().map(Result::unwrap).collect();
    // the alias stands first, what belongs to neither name is gone
    assert_eq!(
        records.iter().map(|r| (r.kind, r.ttl)).collect::<Vec<_>>(),
        [(5, 280), (1, 40)]
    );
    assert_eq!(read.addresses().unwrap().len(), 1);
    answer.write(&asked, Age::Stale, &Reply::datagram(&asked, 1232), &mut out);
    assert_eq!(Response::parse(&out).unwrap().smallest_ttl(), Some(30));
}

#[test]
fn negative_answers_live_as_their_soa_says() {
    let asked = parse(&query(
        0x0100,
        "no.example.org",
        1,
        Some(&opt(1232, false, 0, &[])),
    ));
    let none = response(
        "no.example.org",
        1,
        3,
        [&[], &[soa("example.org", 900, 300)], &[]],
    );
    let answer = taken(&asked, &none);
    assert_eq!((answer.kind(), answer.lifetime()), (Kind::NxDomain, 300));
    let without = response("no.example.org", 1, 0, [&[], &[], &[]]);
    assert_eq!(
        (taken(&asked, &without).kind(), taken(&asked, &without).lifetime()),
        (Kind::NoData, 0)
    );
    let failed = response("no.example.org", 1, 2, [&[], &[], &[]]);
    assert_eq!(taken(&asked, &failed).kind(), Kind::Failure);
    let mut out = Vec::new();
    answer.write(&asked, Age::Fresh(100), &Reply::datagram(&asked, 1232), &mut out);
    assert_eq!(Response::parse(&out).unwrap().negative_ttl(), Some(200));
}

#[test]
fn dnssec_records_are_for_those_who_ask() {
    let signature = [&[0, 1][..], &[0; 16], &wire_name("example.org"), &[9; 8]].concat();
    let message = response(
        "a.example.org",
        1,
        0,
        [
            &[
                record("a.example.org", 1, 60, &[1, 2, 3, 4]),
                record("a.example.org", 46, 60, &signature),
            ],
            &[record("example.org", 47, 60, &[0])],
            &[],
        ],
    );
    let with = parse(&query(0x0100, "a.example.org", 1, Some(&opt(1232, true, 0, &[]))));
    let without = parse(&query(0x0100, "a.example.org", 1, None));
    assert_eq!(taken(&with, &message).counts, [2, 1, 0]);
    assert_eq!(taken(&without, &message).counts, [1, 0, 0]);
    let mut out = Vec::new();
    let proved = taken(&with, &message).with_authentic(true);
    proved.write(&with, Age::Fresh(0), &Reply::stream(), &mut out);
    assert!(Response::parse(&out).unwrap().is_authentic());
    proved.write(&without, Age::Fresh(0), &Reply::stream(), &mut out);
    assert!(
        !Response::parse(&out).unwrap().is_authentic(),
        "told to nobody who did not ask"
    );
}

#[test]
fn what_is_too_large_is_truncated_at_the_clients_size() {
    let many: Vec<Vec<u8>> = (0..60)
        .map(|n| record("big.example.org", 1, 60, &[10, 0, 0, n]))
        .collect();
    let message = response("big.example.org", 1, 0, [&many, &[], &[]]);
    for (opt_record, limit, whole) in [
        (None, 512, false),
        (Some(opt(4096, false, 0, &[])), 1232, true),
        (Some(opt(700, false, 0, &[])), 700, false),
    ] {
        let asked = parse(&query(0x0100, "big.example.org", 1, opt_record.as_deref()));
        let reply = Reply::datagram(&asked, 1232);
        assert_eq!(reply.limit, limit);
        let mut out = Vec::new();
        let written = taken(&asked, &message).write(&asked, Age::Fresh(0), &reply, &mut out);
        let read = Response::parse(&out).unwrap();
        assert_eq!((written == Written::Whole, read.is_truncated()), (whole, !whole));
        assert_eq!(read.opt().is_some(), opt_record.is_some());
        assert!(out.len() <= usize::from(limit));
    }
}

#[test]
fn a_blocked_name_is_said_to_be_so() {
    for (manner, kind, code, answers) in [
        (Manner::NxDomain, 1, 3, 0),
        (Manner::Refused, 1, 5, 0),
        (Manner::Zero, 1, 0, 1),
        (Manner::Zero, 28, 0, 1),
        (Manner::Zero, 16, 0, 0),
    ] {
        let asked = parse(&query(
            0x0100,
            "ads.example.org",
            kind,
            Some(&opt(1232, false, 0, &[])),
        ));
        let blocked = Blocked {
            manner,
            extended: extended::BLOCKED,
            reason: "list: ads",
            ttl: 10,
        };
        let mut out = Vec::new();
        blocked.write(&asked, &Reply::datagram(&asked, 1232), &mut out);
        let read = Response::parse(&out).unwrap();
        assert_eq!((read.code(), read.addresses().unwrap().len()), (code, answers));
        assert_eq!(read.extended_error(), Some((15, &b"list: ads"[..])));
        assert_eq!(
            read.negative_ttl().is_some(),
            answers == 0 && manner != Manner::Refused
        );
        assert!(read.records().all(|record| record.is_ok()));
    }
}

#[test]
fn service_records_give_their_hints() {
    let content = [
        &[0, 1][..],
        &wire_name("svc.example.net"),
        &[0, 4, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let content = [&content[..], &[0, 6, 0, 16], &[0x20; 16]].concat();
    let message = response(
        "example.org",
        65,
        0,
        [&[record("example.org", 65, 60, &content)], &[], &[]],
    );
    let hints = Response::parse(&message).unwrap().hints().unwrap();
    assert_eq!(hints[0].target.to_string(), "svc.example.net");
    assert_eq!(hints[0].addresses.len(), 3);
}

#[test]
fn pointers_that_go_nowhere_are_refused() {
    for pointer in [[0xc0u8, 0x1f], [0xc0, 0xff], [0xff, 0xff]] {
        let mut message = response("a.b", 1, 0, [&[vec![]], &[], &[]]);
        message.extend_from_slice(&pointer);
        message.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4]);
        let owner = Response::parse(&message).unwrap().records().next().unwrap();
        assert!(owner.and_then(|record| record.owner()).is_err());
    }
}

#[test]
fn an_alias_that_leads_to_itself_ends() {
    let a = record("a.org", 5, 60, &wire_name("b.org"));
    let b = record("b.org", 5, 60, &wire_name("a.org"));
    let message = response("a.org", 1, 0, [&[a, b], &[], &[]]);
    let asked = parse(&query(0x0100, "a.org", 1, None));
    assert_eq!(taken(&asked, &message).kind(), Kind::NoData);
    assert_eq!(Response::parse(&message).unwrap().chain().unwrap().len(), 2);
}

/// Whatever bytes come: what was read can be answered, and what was taken of a response reads as a response again.
pub(crate) fn any_bytes(bytes: &[u8]) {
    let mut out = Vec::new();
    match Query::parse(bytes) {
        Err(unfit) => unfit.write(&mut out),
        Ok(query) => {
            let reply = Reply::datagram(&query, UDP_SIZE);
            let blocked = Blocked {
                manner: Manner::Zero,
                extended: 15,
                reason: "x",
                ttl: 1,
            };
            blocked.write(&query, &reply, &mut out);
            assert!(out.len() <= usize::from(reply.limit));
            assert!(
                Response::parse(&out)
                    .unwrap()
                    .answers(query.id(), &query.to_question())
            );
        }
    }
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
    if let Ok(answer) = Answer::from_response(&response, &key, &Bounds::default()) {
        let message = answer.to_message(&key);
        let again = Response::parse(&message).unwrap();
        assert!(
            again
                .records()
                .all(|record| record.and_then(|record| record.owner()).is_ok())
        );
        let twice = Answer::from_response(&again, &key, &Bounds::default()).unwrap();
        assert_eq!(twice.counts[0], answer.counts[0]);
    }
}

/// What was found once stays found: every file of the fuzzer's corpus.
#[test]
fn the_corpus_is_answered_or_refused() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/dns");
    let mut files = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        any_bytes(&std::fs::read(file.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 30);
}

proptest! {
    #[test]
    fn any_message_is_answered_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        any_bytes(&bytes);
    }

    #[test]
    fn a_damaged_response_does_no_harm(at in 0usize..200, byte in any::<u8>(), cut in 0usize..220) {
        let mut message = response(
            "www.example.org",
            1,
            0,
            [
                &[record("www.example.org", 5, 300, &wire_name("cdn.example.org")), record("cdn.example.org", 1, 60, &[1, 2, 3, 4])],
                &[soa("example.org", 900, 300)],
                &[opt(1232, true, 0, &[0, 15, 0, 2, 0, 9])],
            ],
        );
        if let Some(place) = message.get_mut(at) { *place = byte; }
        message.truncate(cut.max(HEADER));
        any_bytes(&message);
    }

    #[test]
    fn ages_never_raise_a_ttl(ttl in any::<u32>(), age in any::<u32>()) {
        let asked = parse(&query(0x0100, "a.org", 1, None));
        let message = response("a.org", 1, 0, [&[record("a.org", 1, ttl, &[1, 2, 3, 4])], &[], &[]]);
        let mut out = Vec::new();
        taken(&asked, &message).write(&asked, Age::Fresh(age), &Reply::stream(), &mut out);
        prop_assert!(Response::parse(&out).unwrap().smallest_ttl().unwrap() <= ttl.min(86_400));
    }

    #[test]
    fn names_survive_the_way_through_an_answer(labels in prop::collection::vec("[a-z]{1,9}", 1..8)) {
        let target = labels.join(".");
        let asked = parse(&query(0x0100, "a.org", 15, None));
        let content = [&[0u8, 10][..], &wire_name(&target)].concat();
        let records = [record("a.org", 15, 60, &content), record("a.org", 15, 60, &content)];
        let message = response("a.org", 15, 0, [&records, &[], &[]]);
        let answer = taken(&asked, &message);
        let again = answer.to_message(asked.key());
        for record in Response::parse(&again).unwrap().records() {
            prop_assert_eq!(record.unwrap().name_in(2).unwrap().0, Name::parse(&target).unwrap());
        }
    }
}
