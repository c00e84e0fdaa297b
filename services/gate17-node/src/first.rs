//! What a caller speaks, by its first octets.

/// See [`classify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A TLS handshake record.
    Tls,
    /// The beginning of a request line.
    Http,
    /// Neither.
    Other,
    /// Cannot be told yet.
    NeedMore,
}

const METHODS: [&[u8]; 9] = [
    b"GET ",
    b"HEAD ",
    b"OPTIONS ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"TRACE ",
    b"PATCH ",
];

/// By as few octets as tell it.
pub fn classify(octets: &[u8]) -> First {
    match octets {
        [] => First::NeedMore,
        // handshake, version 3.x (RFC 8446, section 5.1)
        [0x16] => First::NeedMore,
        [0x16, 0x03, ..] => First::Tls,
        _ if METHODS.iter().any(|method| octets.starts_with(method)) => First::Http,
        _ if METHODS.iter().any(|method| method.starts_with(octets)) => First::NeedMore,
        _ => First::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_few_octets_as_tell_it() {
        for (octets, first) in [
            (b"".as_slice(), First::NeedMore),
            (b"\x16", First::NeedMore),
            (b"\x16\x03", First::Tls),
            (b"\x16\x04", First::Other),
            (b"G", First::NeedMore),
            (b"GET / HTTP/1.1", First::Http),
            (b"OPTIONS * HTTP/1.1", First::Http),
            (b"GOT ", First::Other),
            (b"\r\n", First::Other),
        ] {
            assert_eq!(classify(octets), first, "{octets:?}");
        }
    }
}
