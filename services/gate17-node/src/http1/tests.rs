use proptest::prelude::*;

use super::*;

fn fault_of(octets: &[u8]) -> Option<Fault> {
    match read(octets) {
        Read::More => None,
        Read::Whole(asked, _) => asked.fault(),
        Read::Fault(fault) => Some(fault),
    }
}

#[test]
fn a_head_is_read_with_what_is_behind_it_left() {
    let octets = b"\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nA-b:  c \r\nign_ored: x\r\n\r\nrest";
    let Read::Whole(asked, taken) = read(octets) else {
        panic!("whole")
    };
    assert_eq!(&octets[taken..], b"rest");
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("GET", "/a?b"));
    assert_eq!(asked.headers["a-b"], "c");
    assert_eq!(asked.headers.len(), 2);
    assert!(asked.stays());
}

#[test]
fn what_is_wrong_is_seen_as_soon_as_it_is_there() {
    let long = "a".repeat(9000);
    let many = "a: b\r\n".repeat(6000);
    for (text, fault) in [
        ("what is this", Some(Fault::Malformed)),
        ("\0\0\0", Some(Fault::Malformed)),
        ("SSH-2.0-x", Some(Fault::Malformed)),
        (" GET / HTTP/1.1\r\nHost: x\r\n\r\n", Some(Fault::Malformed)),
        ("GET", None),
        ("GET / HTTP/1.1\r\n", None),
        ("GET /\r\n", None),
        ("PUT /\r\n", Some(Fault::Malformed)),
        ("GET / FTP/1.1\r\n", Some(Fault::Malformed)),
        ("GET / HTTP/2.0\r\n", Some(Fault::Version)),
        ("GET / HTTP/1.1\r\nBad Header: x\r\n", Some(Fault::Malformed)),
        (&format!("GET /{long}"), Some(Fault::LongTarget)),
        (
            &format!("GET / HTTP/1.1\r\nHost: x\r\na: {long}\r\n\r\n"),
            Some(Fault::TooLarge),
        ),
        (&format!("GET / HTTP/1.1\r\n{many}"), Some(Fault::TooLarge)),
    ] {
        assert_eq!(
            fault_of(text.as_bytes()),
            fault,
            "{}",
            &text[..text.len().min(40)]
        );
    }
}

#[test]
fn a_whole_head_may_still_be_no_request_for_a_page() {
    for (text, fault) in [
        ("GET / HTTP/1.1\r\n\r\n", Some(Fault::Malformed)),
        ("GET / HTTP/1.0\r\n\r\n", None),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            Some(Fault::Malformed),
        ),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Fault::Malformed)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Some(Fault::Malformed)),
        ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Fault::Malformed)),
        ("GET http://y/ HTTP/1.1\r\nHost: a\r\n\r\n", None),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            Some(Fault::Malformed),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n",
            Some(Fault::Body),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            Some(Fault::Coding),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(Fault::Malformed),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
        ),
    ] {
        assert_eq!(fault_of(text.as_bytes()), fault, "{text}");
    }
}

proptest! {
    /// Whatever comes: an answer, the same in any pieces, and never more than the limit is waited for.
    #[test]
    fn what_is_said_stays_said(
        octets in prop::collection::vec(prop_oneof![
            any::<u8>(), Just(b'\n'), Just(b' '), Just(b':'), Just(b'\r'), 0x41..0x5b_u8
        ], 0..200),
        begins in any::<bool>(),
    ) {
        let mut all = if begins { b"GET / HTTP/1.1\r\n".to_vec() } else { Vec::new() };
        all.extend(octets);
        let whole = read(&all);
        for length in 0..all.len() {
            match read(&all[..length]) {
                Read::More => {}
                Read::Fault(fault) => prop_assert!(matches!(whole, Read::Fault(same) if same == fault)),
                Read::Whole(_, taken) => prop_assert!(matches!(whole, Read::Whole(_, same) if same == taken)),
            }
        }
    }
}

/// Every file of the fuzzer's corpus, in all pieces.
#[test]
fn what_the_fuzzer_found_is_read_alike_in_any_pieces() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/http1");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        let (whole, mut begun) = (read(&octets), Read::More);
        for length in 0..=octets.len() {
            begun = read(&octets[..length]);
            if !matches!(begun, Read::More) {
                break;
            }
        }
        match (begun, whole) {
            (Read::More, Read::More) | (Read::Fault(_), Read::Fault(_)) => {}
            (Read::Whole(_, early), Read::Whole(_, late)) if early == late => {}
            other => panic!("{:?}: {other:?}", String::from_utf8_lossy(&octets)),
        }
        files += 1;
    }
    assert!(files > 5);
}
