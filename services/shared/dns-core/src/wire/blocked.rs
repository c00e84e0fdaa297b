//! Answers that say no.

use super::{Query, Reply, Writer, Written, code, extended, kind};

/// What a client is told of a name that it may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// There is no such name: programs give up at once.
    #[default]
    NxDomain,
    /// The server does not want to answer. Some programs then ask another.
    Refused,
    /// It is at 0.0.0.0 and ::; no other records.
    Zero,
}

/// A blocked answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked<'a> {
    /// How it is said.
    pub manner: Manner,
    /// [`extended::BLOCKED`] (by the host's owner, a list) or [`extended::FILTERED`] (by the user's own rule).
    pub extended: u16,
    /// Why, in words.
    pub reason: &'a str,
    /// For how long the client may keep it, in seconds.
    pub ttl: u32,
}

impl Blocked<'_> {
    /// Writes it.
    pub fn write(&self, query: &Query, reply: &Reply, out: &mut Vec<u8>) -> Written {
        let mut writer = Writer::begin(query, out);
        writer.extended_error(self.extended, self.reason);
        match (self.manner, query.kind()) {
            (Manner::NxDomain, _) => writer.negative(self.ttl).finish(code::NXDOMAIN, reply),
            (Manner::Refused, _) => writer.finish(code::REFUSED, reply),
            (Manner::Zero, kind::A) => writer
                .answer(kind::A, self.ttl, &[&[0; 4]])
                .finish(code::NOERROR, reply),
            (Manner::Zero, kind::AAAA) => writer
                .answer(kind::AAAA, self.ttl, &[&[0; 16]])
                .finish(code::NOERROR, reply),
            (Manner::Zero, _) => writer.negative(self.ttl).finish(code::NOERROR, reply),
        }
    }
}

/// Writes an answer without records: this code, and why.
pub fn refuse(
    query: &Query,
    code: u16,
    why: Option<(u16, &str)>,
    reply: &Reply,
    out: &mut Vec<u8>,
) -> Written {
    let mut writer = Writer::begin(query, out);
    if let Some((extended, text)) = why {
        writer.extended_error(extended, text);
    }
    writer.finish(code, reply)
}

/// The answer to "everything you have" (RFC 8482 §4.2).
pub fn minimal_any(query: &Query, reply: &Reply, out: &mut Vec<u8>) -> Written {
    let mut writer = Writer::begin(query, out);
    writer
        .answer(kind::HINFO, 3_600, &[b"\x07RFC8482\0"])
        .extended_error(extended::PROHIBITED, "ANY is not answered")
        .finish(code::NOERROR, reply)
}
