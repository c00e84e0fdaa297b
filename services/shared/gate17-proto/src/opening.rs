//! What a client speaks, from its first octets.

/// What the first octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Not yet known.
    NeedMore,
    /// A TLS ClientHello.
    Tls,
    /// An HTTP/1 request.
    Http1,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2Prior,
    /// None of these, or nothing.
    Other,
}

/// The most octets that are looked at.
pub const MAX_LOOKED_AT: usize = 24;
/// RFC 9113 §3.4.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods are tokens (RFC 9110 §9.1); longer ones nobody has.
const MAX_METHOD: usize = 16;

/// Says what `octets` begin; `eof`: no more will come. Never `NeedMore` with [`MAX_LOOKED_AT`] octets, or at the end; and what
/// is said of some octets is said of any that continue them.
pub fn classify(octets: &[u8], eof: bool) -> Opening {
    match begins(octets) {
        Opening::NeedMore if eof => Opening::Other,
        opening => opening,
    }
}

fn begins(octets: &[u8]) -> Opening {
    let Some(first) = octets.first() else {
        return Opening::NeedMore;
    };
    if *first == 0x16 {
        return tls(octets);
    }
    let seen = octets.get(..HTTP2.len()).unwrap_or(octets);
    if HTTP2.starts_with(seen) {
        return if seen.len() == HTTP2.len() {
            Opening::Http2Prior
        } else {
            Opening::NeedMore
        };
    }
    // "PRI " is nobody's method but the preface's
    if octets.starts_with(b"PRI ") {
        return Opening::Other;
    }
    let method = octets
        .iter()
        .take(MAX_METHOD + 1)
        .take_while(|octet| octet.is_ascii_uppercase())
        .count();
    match octets.get(method) {
        None if method <= MAX_METHOD => Opening::NeedMore,
        Some(b' ') if (1..=MAX_METHOD).contains(&method) => Opening::Http1,
        _ => Opening::Other,
    }
}

/// A record of type handshake (RFC 8446 §5.1), major version 3, of a ClientHello.
fn tls(octets: &[u8]) -> Opening {
    match (octets.get(1), octets.get(3), octets.get(4), octets.get(5)) {
        (Some(major), ..) if *major != 3 => Opening::Other,
        (_, Some(high), ..) if *high > 0x41 => Opening::Other,
        (_, Some(0), Some(0..=3), _) => Opening::Other,
        (.., Some(1)) => Opening::Tls,
        (.., Some(_)) => Opening::Other,
        _ => Opening::NeedMore,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_is_known() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc];
        assert_eq!(classify(&hello, false), Opening::Tls);
        assert_eq!(classify(&hello[..5], false), Opening::NeedMore);
        assert_eq!(classify(&hello[..5], true), Opening::Other);
        assert_eq!(classify(b"GET / HTTP/1.1\r\n", false), Opening::Http1);
        assert_eq!(classify(b"OPTIONS *", false), Opening::Http1);
        assert_eq!(classify(b"PROPFIND /", false), Opening::Http1);
        assert_eq!(classify(HTTP2, false), Opening::Http2Prior);
        assert_eq!(classify(b"PRI * HTTP/1.1\r\n", false), Opening::Other);
        assert_eq!(classify(b"PR", false), Opening::NeedMore);
        assert_eq!(classify(b"SSH-2.0-x", false), Opening::Other);
        assert_eq!(classify(b"\r\n", false), Opening::Other);
        assert_eq!(classify(&[0x16, 3, 1, 2, 0, 2], false), Opening::Other);
        assert_eq!(classify(b"", false), Opening::NeedMore);
        assert_eq!(classify(b"", true), Opening::Other);
    }

    #[test]
    fn the_fuzzers_corpus_is_read() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/opening");
        let mut read = 0;
        for file in std::fs::read_dir(corpus).unwrap() {
            let octets = std::fs::read(file.unwrap().path()).unwrap();
            assert_ne!(classify(&octets, true), Opening::NeedMore);
            read += 1;
        }
        assert!(read > 0);
    }

    proptest! {
        #[test]
        fn what_is_said_stays_said(octets in prop::collection::vec(prop_oneof![any::<u8>(), 0x41..0x5b_u8, Just(0x16), Just(3), Just(1), Just(b' ')], 0..40)) {
            let mut said = Opening::NeedMore;
            for length in 0..=octets.len() {
                let now = classify(&octets[..length], false);
                prop_assert!(said == Opening::NeedMore || said == now);
                prop_assert!(now != Opening::NeedMore || length < MAX_LOOKED_AT);
                said = now;
            }
            prop_assert_ne!(classify(&octets, true), Opening::NeedMore);
        }
    }
}
