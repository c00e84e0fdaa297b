//! Files of names, in the forms that people publish them in; told apart line by line.
//!
//! | a line | covers |
//! |---|---|
//! | `0.0.0.0 a.test b.test`, any address that leads nowhere (hosts(5)) | these names |
//! | `a.test` | this name; with what is below it where the list is said to hold zones |
//! | `*.a.test`, `.a.test` | the name and what is below, as the publishers of such lists mean it |
//! | <code>\|\|a.test^</code> (Adblock) | the name and what is below; `@@` permits it |
//! | <code>\|\|*.a.test^</code>, <code>\|a.test^</code> | only what is below; only the name |
//! | `address=/a.test/…`, `server=/a.test/`, `local=/a.test/` (dnsmasq) | the name and what is below; `/#` permits it |
//! | `a.test CNAME …` (policy zone) | this name; `rpz-passthru.` permits it |
//! | `*.a.test CNAME …` | only what is below |
//!
//! Rules with conditions that a name server cannot see (paths, kinds of requests, `$domain=`, `$third-party`) are counted
//! and passed over: taken without their condition they would refuse more than is meant. Total over any bytes, in bounded
//! memory.

use std::{borrow::Cow, net::IpAddr};

use super::{Says, forms, policy_zone::PolicyZone};
use crate::Name;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Covers {
    /// This name.
    Name,
    /// This name and all below it.
    Zone,
    /// All below it, and not the name itself.
    Below,
}

/// A line that says nothing that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Counted from 1.
    pub line: u64,
    /// Its beginning.
    pub text: String,
}

/// What a file had in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Names, also those that are there twice.
    pub entries: u64,
    /// Comments, and lines that every file of a form has (`127.0.0.1 localhost`, SOA, NS).
    pub comments: u64,
    /// Lines that mean something, but nothing that a name server can do.
    pub unsupported: u64,
    /// Lines that mean nothing, and names in other lines that are none.
    pub garbage: u64,
    /// The first of those.
    pub first: Vec<Garbage>,
}

/// Longer lines are garbage.
const LONGEST: usize = 4096;
/// Lines of garbage that are shown.
const SHOWN: usize = 5;
/// Characters that are shown of each.
const SHOWN_TEXT: usize = 80;

/// Reads a file piece by piece.
#[derive(Debug)]
pub struct Reader {
    /// For names that say nothing of it.
    plain: Covers,
    zone: PolicyZone,
    line: u64,
    rest: Vec<u8>,
    /// The line is too long: the rest of it is passed over.
    skip: bool,
    report: Report,
}

/// What a line was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Blank,
    Comment,
    Unsupported,
    Garbage,
    Names,
}

/// Takes the names of a line.
pub(super) type Emit<'a> = dyn FnMut(&str, Covers, Says) + 'a;

impl Reader {
    /// `plain`: what a name alone on its line covers.
    pub fn new(plain: Covers) -> Self {
        Self {
            plain,
            zone: PolicyZone::default(),
            line: 0,
            rest: Vec::new(),
            skip: false,
            report: Report::default(),
        }
    }

    /// The next piece; `found` gets each name.
    pub fn feed(&mut self, mut piece: &[u8], mut found: impl FnMut(&Name, Covers, Says)) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, after) = piece.split_at(end);
            piece = after.get(1..).unwrap_or_default();
            if self.rest.is_empty() && !self.skip {
                self.close(line, &mut found);
                continue;
            }
            self.grow(line);
            self.close_rest(&mut found);
        }
        self.grow(piece);
    }

    /// The end of the file.
    pub fn finish(mut self, mut found: impl FnMut(&Name, Covers, Says)) -> Report {
        if !self.rest.is_empty() || self.skip {
            self.close_rest(&mut found);
        }
        self.report
    }

    fn grow(&mut self, bytes: &[u8]) {
        if self.skip {
            return;
        }
        let room = LONGEST + 1 - self.rest.len().min(LONGEST + 1);
        self.rest.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.skip = self.rest.len() > LONGEST;
    }

    fn close_rest(&mut self, found: &mut impl FnMut(&Name, Covers, Says)) {
        let mut bytes = std::mem::take(&mut self.rest);
        self.skip = false;
        self.close(&bytes, found);
        bytes.clear();
        self.rest = bytes;
    }

    fn close(&mut self, bytes: &[u8], found: &mut impl FnMut(&Name, Covers, Says)) {
        self.line += 1;
        if bytes.len() > LONGEST {
            let start = bytes.get(..SHOWN_TEXT).unwrap_or_default();
            return self.garbage(&String::from_utf8_lossy(start));
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim_end();
        let (mut good, mut bad) = (0, 0);
        let line = self.read(text, &mut |name, covers, says| match name_of(name, covers) {
            Some(name) => {
                found(&name, covers, says);
                good += 1;
            }
            None => bad += 1,
        });
        self.report.entries += good;
        match line {
            Line::Blank => {}
            Line::Comment => self.report.comments += 1,
            Line::Unsupported => self.report.unsupported += 1,
            Line::Garbage => self.garbage(text),
            Line::Names => {
                if bad > 0 {
                    self.garbage(text);
                }
            }
        }
    }

    fn garbage(&mut self, text: &str) {
        self.report.garbage += 1;
        if self.report.first.len() < SHOWN {
            self.report.first.push(Garbage {
                line: self.line,
                text: text.chars().take(SHOWN_TEXT).collect(),
            });
        }
    }

    fn read(&mut self, whole: &str, emit: &mut Emit<'_>) -> Line {
        let text = whole.trim_start();
        if self.zone.is_within_soa(text) {
            return Line::Comment;
        }
        match text.as_bytes() {
            [] => return Line::Blank,
            [b'#' | b'!' | b';' | b'[', ..] => return Line::Comment,
            [b'$', ..] => return self.zone.directive(text),
            [b'|', ..] => return forms::adblock(text, Says::Refuse, emit),
            [b'@', b'@', ..] => return forms::adblock(text.trim_start_matches('@'), Says::Permit, emit),
            _ => {}
        }
        let mut words = text.split_whitespace();
        let Some(first) = words.next() else {
            return Line::Blank;
        };
        if let Some(line) = forms::hosts(first, words.clone(), emit) {
            return line;
        }
        if forms::is_cosmetic(text) {
            return Line::Unsupported;
        }
        if let Some(line) = forms::dnsmasq(text, emit) {
            return line;
        }
        let first = first.split('#').next().unwrap_or_default();
        let is_comment = |word: &str| word.starts_with(['#', ';']);
        if words.clone().next().is_none_or(is_comment) {
            return forms::plain(first, self.plain, emit);
        }
        let words: Vec<&str> = text
            .split_whitespace()
            .take_while(|word| !is_comment(word))
            .collect();
        let is_continued = whole.starts_with(char::is_whitespace) && !first.contains(['.', '*', '@']);
        self.zone.record(&words, is_continued, emit)
    }
}

/// Names of people's languages are written as DNS has them (IDNA, as browsers do). A top-level domain is taken away only
/// where the form says that zones are meant; the root never.
fn name_of(text: &str, covers: Covers) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = if text.is_ascii() {
        Cow::from(text)
    } else {
        Cow::from(idna::domain_to_ascii(text).ok()?)
    };
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !ascii.bytes().all(is_usual) || ascii.ends_with('.') || ascii.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = ascii.parse::<Name>().ok()?;
    let labels = name.labels().count();
    (labels > 1 || labels == 1 && covers != Covers::Name).then_some(name)
}

#[cfg(test)]
mod tests;
