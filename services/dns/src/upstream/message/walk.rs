//! Goes through a message from outside far enough to find its EDNS record, and never past its end.

use super::{
    HEADER,
    options::{COOKIE, EXTENDED_ERROR, OPT},
};

/// The EDNS record of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns<'a> {
    /// The upper eight bits of the response code.
    pub(crate) code_high: u8,
    options: &'a [u8],
}

impl<'a> Edns<'a> {
    /// Its options: code and content, as far as they are whole.
    pub(crate) fn options(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.options;
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_at_checked(4)?;
            let [code0, code1, length0, length1] = head else {
                return None;
            };
            let length = usize::from(u16::from_be_bytes([*length0, *length1]));
            let (content, after) = tail.split_at_checked(length)?;
            rest = after;
            Some((u16::from_be_bytes([*code0, *code1]), content))
        })
    }

    /// The COOKIE option: the client's eight bytes, and the server's.
    pub(crate) fn cookie(&self) -> Option<(&'a [u8], &'a [u8])> {
        let (_, content) = self.options().find(|(code, _)| *code == COOKIE)?;
        content.split_at_checked(8)
    }
}

/// The EDNS record, if there is one that can be read.
pub(crate) fn edns(message: &[u8]) -> Option<Edns<'_>> {
    let count = |at: usize| {
        let bytes = message.get(at..at + 2)?;
        Some(u16::from_be_bytes(bytes.try_into().ok()?))
    };
    let mut at = HEADER;
    for _ in 0..count(4)? {
        at = after_name(message, at)? + 4;
    }
    let records = u32::from(count(6)?) + u32::from(count(8)?) + u32::from(count(10)?);
    for _ in 0..records {
        let head = after_name(message, at)?;
        let [kind0, kind1, _, _, code_high, _, _, _, length0, length1] = message.get(head..head + 10)? else {
            return None;
        };
        let end = head + 10 + usize::from(u16::from_be_bytes([*length0, *length1]));
        let content = message.get(head + 10..end)?;
        if u16::from_be_bytes([*kind0, *kind1]) == OPT {
            return Some(Edns {
                code_high: *code_high,
                options: content,
            });
        }
        at = end;
    }
    None
}

/// The first extended error of an answer: code and text (RFC 8914 §2).
pub(crate) fn extended_error(message: &[u8]) -> Option<(u16, String)> {
    let opt = edns(message)?;
    let (_, content) = opt.options().find(|(code, _)| *code == EXTENDED_ERROR)?;
    let (code, text) = content.split_at_checked(2)?;
    let code = u16::from_be_bytes(code.try_into().ok()?);
    Some((code, String::from_utf8_lossy(text).into_owned()))
}

/// Where a name that begins at `at` ends; a compression pointer ends it.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}
