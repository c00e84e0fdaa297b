use dns_core::Name;
use hickory_proto::op::Message;
use proptest::prelude::*;

use super::*;

fn question(name: &str) -> Question {
    Question {
        name: Name::parse(name).unwrap(),
        kind: 1,
        class: 1,
    }
}

const PLAIN: Make<'static> = Make {
    id: 0x1234,
    dnssec_ok: false,
    checking_disabled: false,
    edns: true,
    cookie: None,
    pad: false,
    case: &[],
};

fn answer_to(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer
}

#[test]
fn a_query_reads_as_it_was_meant() {
    let make = Make {
        dnssec_ok: true,
        checking_disabled: true,
        cookie: Some(b"12345678"),
        case: &[0b101],
        ..PLAIN
    };
    let bytes = query(&question("example.org"), &make);
    let read = Message::from_vec(&bytes).unwrap();
    assert_eq!(read.id, 0x1234);
    assert!(read.recursion_desired && read.checking_disabled);
    let edns = read.edns.as_ref().unwrap();
    assert!(edns.flags().dnssec_ok && edns.max_payload() == UDP_SIZE);
    assert_eq!(read.queries[0].name().to_string(), "ExAmple.org.");
    assert_eq!(
        walk::edns(&bytes).unwrap().cookie(),
        Some((&b"12345678"[..], &b""[..]))
    );
}

#[test]
fn a_padded_query_hides_its_length() {
    let make = Make { pad: true, ..PLAIN };
    for name in [
        "a.org",
        "a.much.longer.name.example.org",
        &"abcdefghi.".repeat(10),
    ] {
        let bytes = query(&question(name), &make);
        assert_eq!(bytes.len() % PADDING_BLOCK, 0);
        Message::from_vec(&bytes).unwrap();
    }
}

#[test]
fn only_the_answer_to_the_question_matches() {
    let sent = query(
        &question("example.org"),
        &Make {
            case: &[0xff],
            ..PLAIN
        },
    );
    let good = answer_to(&sent);
    assert_eq!(matches(&sent, &good), Match::Answer);
    assert_eq!(matches(&sent, &sent), Match::Garbage, "a query is no answer");
    assert_eq!(matches(&sent, &good[..11]), Match::Garbage);
    let changed = |at: usize, bits: u8| {
        let mut answer = good.clone();
        answer[at] ^= bits;
        matches(&sent, &answer)
    };
    assert_eq!(changed(1, 1), Match::Id);
    assert_eq!(changed(2, 0x10), Match::Garbage, "another operation");
    assert_eq!(changed(13, 0x20), Match::Case);
    assert_eq!(changed(14, 1), Match::Question);
    assert_eq!(changed(HEADER + 13 + 1, 2), Match::Question, "another type");
}

#[test]
fn what_is_handed_on_tells_nothing_of_the_way() {
    let asked = question("example.org");
    let mut answer = answer_to(&query(
        &asked,
        &Make {
            case: &[0xff],
            ..PLAIN
        },
    ));
    answer[3] |= 0x20;
    settle(&mut answer, &asked, false);
    assert_eq!(&answer[..4], &[0, 0, 0x81, 0]);
    assert_eq!(&answer[12..25], asked.name.as_wire());
}

#[test]
fn an_extended_error_is_found() {
    let mut bytes = answer_to(&query(&question("example.org"), &PLAIN));
    let length = bytes.len();
    bytes[length - 1] = 9;
    bytes.extend_from_slice(&[0, 15, 0, 5, 0, 7, b'o', b'l', b'd']);
    assert_eq!(extended_error(&bytes), Some((7, "old".to_owned())));
}

proptest! {
    #[test]
    fn any_bytes_are_walked(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let sent = query(&question("example.org"), &PLAIN);
        let _ = (matches(&sent, &bytes), code(&bytes), extended_error(&bytes), dislikes_edns(&bytes));
        let mut bytes = bytes;
        settle(&mut bytes, &question("example.org"), false);
    }

    #[test]
    fn a_broken_answer_never_passes_for_another(at in 0usize..30, bits in 1u8..) {
        let sent = query(&question("some.example.org"), &PLAIN);
        let mut answer = answer_to(&sent);
        answer[at] ^= bits;
        let harmless = matches!(at, 6..12) || (at == 3) || (at == 2 && bits & 0xf8 == 0);
        prop_assert_eq!(matches(&sent, &answer) == Match::Answer, harmless);
    }
}
