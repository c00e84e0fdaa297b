//! EDNS(0) of a query (RFC 6891): the OPT record and the options that this server knows.

use super::{PLAIN_SIZE, u16_at};

const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;

/// What a client's OPT record says. Other options are not understood and thus passed over; a client subnet (RFC 7871) is
/// nobody's business and goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest answer that the client takes over UDP, at least 512.
    pub size: u16,
    /// The version; this server knows 0.
    pub version: u8,
    /// Whether the client wants DNSSEC records.
    pub dnssec_ok: bool,
    /// The COOKIE option.
    pub cookie: Option<ClientCookie>,
    /// Whether the client asks how long it may keep the connection (RFC 7828).
    pub keepalive: bool,
}

/// The COOKIE option of a query (RFC 7873 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientCookie {
    /// The client's own part, to be repeated.
    pub client: [u8; 8],
    /// What some server once gave it, if it is of the size of ours (RFC 9018 §4).
    pub server: Option<[u8; 16]>,
}

impl Edns {
    /// Reads an OPT record: its class and TTL fields, and its content. None where an option is cut or no cookie.
    pub(super) fn read(class: u16, ttl: u32, mut options: &[u8]) -> Option<Self> {
        let [_, version, flags, _] = ttl.to_be_bytes();
        let mut edns = Self {
            size: class.max(PLAIN_SIZE),
            version,
            dnssec_ok: flags & 0x80 != 0,
            cookie: None,
            keepalive: false,
        };
        while !options.is_empty() {
            let (code, length) = (u16_at(options, 0)?, usize::from(u16_at(options, 2)?));
            let (content, rest) = options.get(4..)?.split_at_checked(length)?;
            match code {
                COOKIE => edns.cookie = Some(ClientCookie::read(content)?),
                KEEPALIVE => edns.keepalive = true,
                _ => {}
            }
            options = rest;
        }
        Some(edns)
    }
}

impl ClientCookie {
    /// Eight bytes, or with the server's part 16 to 40 (RFC 7873 §5.2.2: all else is malformed).
    fn read(content: &[u8]) -> Option<Self> {
        let (client, server) = content.split_first_chunk::<8>()?;
        if !(server.is_empty() || (8..=32).contains(&server.len())) {
            return None;
        }
        Some(Self {
            client: *client,
            server: server.try_into().ok(),
        })
    }
}

/// Appends one option.
pub(super) fn option(out: &mut Vec<u8>, code: u16, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}
