//! DNS messages: queries in, answers out, and what upstreams send.
//!
//! Everything here is total: any bytes are read or refused, and nothing is written that was not checked. Nothing of an
//! upstream's message reaches a client as it came: records are read and written anew ([`Answer`]), the OPT record is made
//! for each client.

mod answer;
mod blocked;
mod cookie;
mod edns;
mod extract;
mod query;
mod reader;
mod records;
mod writer;

pub use answer::{Age, Answer, Bounds, Kind};
pub use blocked::{Blocked, Manner, minimal_any, refuse};
pub use cookie::{Cookie, CookieSecret};
pub use edns::{ClientCookie, Edns};
pub use extract::{Address, Hint};
pub use query::{Key, Query, Unfit};
pub use reader::{Record, Records, Response, ResponseError, Section};
pub use writer::{Reply, Writer, Written};

/// The bytes of a message's header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;
/// What a client without EDNS takes over UDP (RFC 1035 §2.3.4).
pub const PLAIN_SIZE: u16 = 512;
/// The largest answer over UDP that is sent, and asked for: goes through every path unfragmented (DNS flag day 2020).
pub const UDP_SIZE: u16 = 1232;

/// Response codes (registry "DNS RCODEs").
pub mod code {
    /// No error.
    pub const NOERROR: u16 = 0;
    /// The message was not understood.
    pub const FORMERR: u16 = 1;
    /// The server failed.
    pub const SERVFAIL: u16 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u16 = 3;
    /// The operation is not implemented.
    pub const NOTIMP: u16 = 4;
    /// The server does not want to.
    pub const REFUSED: u16 = 5;
    /// The EDNS version is not implemented (RFC 6891 §9).
    pub const BADVERS: u16 = 16;
}

/// Types of records (registry "Resource Record (RR) TYPEs").
#[expect(missing_docs, reason = "the registry's own names")]
pub mod kind {
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const PTR: u16 = 12;
    pub const HINFO: u16 = 13;
    pub const MX: u16 = 15;
    pub const TXT: u16 = 16;
    pub const AAAA: u16 = 28;
    pub const DNAME: u16 = 39;
    pub const OPT: u16 = 41;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const NSEC3: u16 = 50;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
    pub const TSIG: u16 = 250;
    pub const ANY: u16 = 255;
}

/// The Internet class.
pub const CLASS_IN: u16 = 1;

/// Codes of Extended DNS Errors (RFC 8914 §4).
pub mod extended {
    /// None of the others.
    pub const OTHER: u16 = 0;
    /// The answer is from the cache, and older than its time.
    pub const STALE_ANSWER: u16 = 3;
    /// The same failed a moment ago.
    pub const CACHED_ERROR: u16 = 13;
    /// The server is not ready for the question.
    pub const NOT_READY: u16 = 14;
    /// The owner of this server wants no answer to this.
    pub const BLOCKED: u16 = 15;
    /// The client (its user) wants no answer to this.
    pub const FILTERED: u16 = 17;
    /// The server refuses the client.
    pub const PROHIBITED: u16 = 18;
    /// No upstream could be reached.
    pub const NO_REACHABLE_AUTHORITY: u16 = 22;
}

/// Two bytes at `at`, most significant first.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*pair))
}

/// Four bytes at `at`, most significant first.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests;
