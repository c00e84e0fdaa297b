//! Queries as they go to an upstream, and whether what comes back answers them. Pure; works on the bytes of messages.

use dns_core::Question;

pub(crate) mod options;
pub(crate) mod walk;

pub(crate) use walk::extended_error;

/// The bytes of a message's header.
pub(crate) const HEADER: usize = 12;
/// The size of UDP answers that is asked for: goes through every path unfragmented (DNS flag day 2020).
pub(crate) const UDP_SIZE: u16 = 1232;
/// Encrypted queries are padded to multiples of this many bytes (RFC 8467 §4.1).
const PADDING_BLOCK: usize = 128;
/// The response code of a server that wants a valid cookie (RFC 7873 §8).
pub(crate) const BADCOOKIE: u16 = 23;
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;

/// What goes into one query beside its question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Make<'a> {
    /// The message id.
    pub(crate) id: u16,
    /// Whether the client wants DNSSEC records.
    pub(crate) dnssec_ok: bool,
    /// Whether the upstream must not validate.
    pub(crate) checking_disabled: bool,
    /// Whether the query carries EDNS.
    pub(crate) edns: bool,
    /// The COOKIE option's content.
    pub(crate) cookie: Option<&'a [u8]>,
    /// Whether the length is hidden (encrypted transports).
    pub(crate) pad: bool,
    /// Random bits that say which letters are written large (0x20); zero leaves all small.
    pub(crate) case: &'a [u8],
}

/// Writes a query with recursion desired.
pub(crate) fn query(question: &Question, make: &Make<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(PADDING_BLOCK);
    out.extend_from_slice(&make.id.to_be_bytes());
    out.push(0x01); // RD
    out.push(if make.checking_disabled { 0x10 } else { 0 });
    out.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(make.edns)]);
    let start = out.len();
    out.extend_from_slice(question.name.as_wire());
    randomise_case(out.get_mut(start..).unwrap_or_default(), make.case);
    out.extend_from_slice(&question.kind.to_be_bytes());
    out.extend_from_slice(&question.class.to_be_bytes());
    if make.edns {
        options::write(&mut out, make);
    }
    out
}

/// Sets the case of each letter of a wire name by one random bit. The bytes of lengths are below 64 and thus no letters.
fn randomise_case(name: &mut [u8], bits: &[u8]) {
    let letters = name.iter_mut().filter(|byte| byte.is_ascii_lowercase());
    for (at, letter) in letters.enumerate() {
        let bit = bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        if bit {
            letter.make_ascii_uppercase();
        }
    }
}

/// What a message that came back is to the query that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// Its answer.
    Answer,
    /// Shorter than a header, no response, or another operation.
    Garbage,
    /// Another id.
    Id,
    /// Another question.
    Question,
    /// The question in other letters than those sent.
    Case,
}

/// Compares an answer with the query that was sent. A server that refuses a malformed query may leave the question out;
/// then the id is all there is to compare.
pub(crate) fn matches(sent: &[u8], answer: &[u8]) -> Match {
    let (Some(head), Some(asked)) = (answer.get(..HEADER), sent.get(..HEADER)) else {
        return Match::Garbage;
    };
    let [id0, id1, flags, low, questions0, questions1, ..] = head else {
        return Match::Garbage;
    };
    let questions = u16::from_be_bytes([*questions0, *questions1]);
    if flags & 0xf8 != 0x80 {
        return Match::Garbage;
    }
    if asked.get(..2) != Some(&[*id0, *id1]) {
        return Match::Id;
    }
    if questions == 0 && matches!(low & 0x0f, 1 | 4 | 5) {
        return Match::Answer;
    }
    let Some(length) = question_length(sent) else {
        return Match::Question;
    };
    let of = |message: &[u8]| message.get(HEADER..HEADER + length).map(<[u8]>::to_vec);
    match (of(sent), of(answer)) {
        (Some(asked), Some(got)) if questions == 1 && asked == got => Match::Answer,
        (Some(asked), Some(got)) if questions == 1 && asked.eq_ignore_ascii_case(&got) => Match::Case,
        _ => Match::Question,
    }
}

/// The bytes of the first question.
fn question_length(message: &[u8]) -> Option<usize> {
    let name = dns_core::name::length_of(message.get(HEADER..)?).ok()?;
    Some(name + 4)
}

/// Whether the answer was cut (TC).
pub(crate) fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// The response code, with its upper bits from EDNS.
pub(crate) fn code(answer: &[u8]) -> u16 {
    let low = answer.get(3).map_or(0, |byte| u16::from(byte & 0x0f));
    let high = walk::edns(answer).map_or(0, |opt| u16::from(opt.code_high));
    high << 4 | low
}

/// Whether the server seems not to know EDNS (RFC 6891 §7).
pub(crate) fn dislikes_edns(answer: &[u8]) -> bool {
    matches!(code(answer), FORMERR | NOTIMP) && walk::edns(answer).is_none()
}

/// Puts a foreign answer into the shape that is handed on: id 0, the question in small letters, and no word about DNSSEC
/// from one who could have been anybody on the way.
pub(crate) fn settle(answer: &mut [u8], question: &Question, trusted_way: bool) {
    if let Some(id) = answer.get_mut(..2) {
        id.fill(0);
    }
    if let Some(flags) = answer.get_mut(3).filter(|_| !trusted_way) {
        *flags &= !0x20;
    }
    let wire = question.name.as_wire();
    let same = answer.get_mut(HEADER..HEADER + wire.len());
    if let Some(name) = same.filter(|name| name.eq_ignore_ascii_case(wire)) {
        name.copy_from_slice(wire);
    }
}

#[cfg(test)]
mod tests;
