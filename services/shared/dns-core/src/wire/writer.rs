//! Writes answers: header, the question as the client asked it, records, OPT.

use super::{HEADER, Query, code, edns::option, reader::fitting};
use crate::wire::{CLASS_IN, Cookie, UDP_SIZE, kind};

const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const EXTENDED_ERROR: u16 = 15;
/// The fixed part of an OPT record.
const OPT_HEAD: usize = 11;
/// The name of the question, as a compression pointer.
const QUESTION_POINTER: [u8; 2] = [0xc0, HEADER as u8];
/// An explanation is a line, not a letter.
const LONGEST_TEXT: usize = 120;

/// What an answer depends on beside the question: the client and the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The largest message, in bytes.
    pub limit: u16,
    /// The content of the COOKIE option.
    pub cookie: Option<Cookie>,
    /// How long the client may keep its idle connection, in units of 100 ms (RFC 7828).
    pub keepalive: Option<u16>,
}

impl Reply {
    /// Over UDP: as large as the client takes, but at most `cap` bytes.
    pub fn datagram(query: &Query, cap: u16) -> Self {
        Self {
            limit: fitting(query.edns().map(|edns| edns.size), cap),
            cookie: None,
            keepalive: None,
        }
    }

    /// Over TCP: as large as the framing allows.
    pub fn stream() -> Self {
        Self {
            limit: u16::MAX,
            cookie: None,
            keepalive: None,
        }
    }
}

/// Whether all of it found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Yes.
    Whole,
    /// No: the client is told to come back over TCP (TC), and gets no records; part of an answer helps nobody (RFC 2181
    /// §9).
    Truncated,
}

/// Writes one answer into a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    query: &'a Query,
    counts: [u16; 3],
    authentic: bool,
    error: Option<(u16, &'a str)>,
}

impl<'a> Writer<'a> {
    /// Clears the buffer and writes the question, in the client's letters.
    pub fn begin(query: &'a Query, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(query.as_asked());
        Self {
            out,
            query,
            counts: [0; 3],
            authentic: false,
            error: None,
        }
    }

    /// Adds a record of the question's own name to the answer.
    pub fn answer(&mut self, kind: u16, ttl: u32, rdata: &[&[u8]]) -> &mut Self {
        self.record(0, kind, ttl, rdata)
    }

    /// Adds the SOA record by which clients keep a negative answer for `ttl` seconds (RFC 2308).
    pub fn negative(&mut self, ttl: u32) -> &mut Self {
        // localhost. nobody.invalid. as mail address; the numbers are those of RFC 6303 §3
        const NAMES: &[u8] = b"\x09localhost\0\x06nobody\x07invalid\0";
        let (serial, refresh, retry, expire) = (1u32, 3600u32, 1200u32, 604_800u32);
        let numbers = [serial, refresh, retry, expire, ttl].map(u32::to_be_bytes);
        self.record(1, kind::SOA, ttl, &[NAMES, numbers.as_flattened()])
    }

    fn record(&mut self, section: usize, kind: u16, ttl: u32, rdata: &[&[u8]]) -> &mut Self {
        let length: usize = rdata.iter().map(|part| part.len()).sum();
        self.out.extend_from_slice(&QUESTION_POINTER);
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&ttl.to_be_bytes());
        self.out
            .extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        for part in rdata {
            self.out.extend_from_slice(part);
        }
        if let Some(count) = self.counts.get_mut(section) {
            *count += 1;
        }
        self
    }

    /// Adds records that are written already; gives the place where they begin.
    pub(super) fn records(&mut self, body: &[u8], counts: [u16; 3]) -> usize {
        let at = self.out.len();
        self.out.extend_from_slice(body);
        self.counts = counts;
        at
    }

    /// The bytes so far.
    pub(super) fn buffer(&mut self) -> &mut [u8] {
        self.out
    }

    /// DNSSEC proves it; told only to clients that ask.
    pub fn authentic(&mut self, authentic: bool) -> &mut Self {
        self.authentic = authentic;
        self
    }

    /// Adds an Extended DNS Error (RFC 8914); told only to clients with EDNS.
    pub fn extended_error(&mut self, code: u16, text: &'a str) -> &mut Self {
        self.error = Some((code, text));
        self
    }

    /// Closes the message with the response code.
    pub fn finish(&mut self, code: u16, reply: &Reply) -> Written {
        let limit = usize::from(reply.limit);
        let opt = self.query.edns().is_some();
        let mut written = Written::Whole;
        if self.out.len() + self.options_length(reply) > limit {
            // an explanation is the first that goes
            self.error = None;
        }
        if self.out.len() + self.options_length(reply) > limit {
            self.out.truncate(HEADER + self.query.as_asked().len());
            self.counts = [0; 3];
            written = Written::Truncated;
        }
        if opt {
            self.opt(code, reply);
        }
        self.header(code, written == Written::Truncated, opt);
        written
    }

    fn header(&mut self, code: u16, truncated: bool, opt: bool) {
        let authentic = self.authentic && self.query.wants_authentic() && !truncated;
        // QR and RA are always set
        let flags = 0x8080
            | self.query.repeated_flags()
            | u16::from(truncated) << 9
            | u16::from(authentic) << 5
            | if code <= 0x0f || opt {
                code & 0x0f
            } else {
                code::SERVFAIL
            };
        let [answers, authorities, additional] = self.counts;
        let additional = additional + u16::from(opt);
        let fields = [self.query.id(), flags, 1, answers, authorities, additional].map(u16::to_be_bytes);
        if let Some(head) = self.out.first_chunk_mut::<HEADER>() {
            head.copy_from_slice(fields.as_flattened());
        }
    }

    fn options_length(&self, reply: &Reply) -> usize {
        let Some(edns) = self.query.edns() else { return 0 };
        let error = self.error.map_or(0, |(_, text)| 6 + shortened(text).len());
        let cookie = reply.cookie.map_or(0, |cookie| 4 + cookie.len());
        let keepalive = reply.keepalive.filter(|_| edns.keepalive).map_or(0, |_| 6);
        OPT_HEAD + error + cookie + keepalive
    }

    fn opt(&mut self, code: u16, reply: &Reply) {
        let Some(edns) = self.query.edns() else { return };
        let length = self.options_length(reply) - OPT_HEAD;
        self.out.push(0); // the root owns it
        self.out.extend_from_slice(&kind::OPT.to_be_bytes());
        self.out.extend_from_slice(&UDP_SIZE.to_be_bytes());
        let high = u8::try_from(code >> 4).unwrap_or(0);
        self.out
            .extend_from_slice(&[high, 0, u8::from(edns.dnssec_ok) << 7, 0]);
        self.out
            .extend_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        if let Some(cookie) = reply.cookie {
            option(self.out, COOKIE, &[&cookie]);
        }
        if let Some(time) = reply.keepalive.filter(|_| edns.keepalive) {
            option(self.out, KEEPALIVE, &[&time.to_be_bytes()]);
        }
        if let Some((code, text)) = self.error {
            option(
                self.out,
                EXTENDED_ERROR,
                &[&code.to_be_bytes(), shortened(text).as_bytes()],
            );
        }
    }
}

/// The text up to the last whole character that fits.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text)
}
