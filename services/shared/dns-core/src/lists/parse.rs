//! Files of names, in the forms that people publish them in; told apart line by line.
//!
//! | a line | refuses |
//! |---|---|
//! | `0.0.0.0 a.test b.test` (also `127.0.0.1`, `::`, `::1`) | these names, as hosts(5) means them |
//! | `a.test` | this name; with what is below it where the list is said to hold zones |
//! | `*.a.test`, `.a.test`, `a.test.` below `$ORIGIN` as `*.a.test` | what is below; a wildcard form alone, the name as well |
//! | <code>\|\|a.test^</code>, <code>@@\|\|a.test^</code> | the name and what is below; `@@` permits it |
//! | `address=/a.test/…`, `server=/a.test/`, `local=/a.test/` | the name and what is below (dnsmasq) |
//! | `a.test CNAME .` and `*.`, `rpz-drop.`, `rpz-passthru.` | as response policy zones say; the last permits |
//!
//! Adblock rules with conditions that a name server cannot see (paths, page types, `$domain=`) are counted and passed over:
//! taken without their condition they would refuse more than is meant. Total over any bytes, in bounded memory.

use std::{borrow::Cow, net::IpAddr};

use super::Says;
use crate::Name;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Covers {
    /// This name.
    Name,
    /// This name and all below it.
    Zone,
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
    /// Names.
    pub entries: u64,
    /// Lines that mean something, but nothing that a name server can do.
    pub unsupported: u64,
    /// Lines that mean nothing.
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
    /// Below which a response policy zone stands.
    origin: Name,
    line: u64,
    rest: Vec<u8>,
    /// The line is too long: the rest of it is passed over.
    skip: bool,
    report: Report,
}

/// What a line says.
enum Line<'a> {
    Nothing,
    Unsupported,
    Garbage,
    Names(Vec<(Cow<'a, str>, Covers, Says)>),
}

impl Reader {
    /// `plain`: what a name alone on its line covers.
    pub fn new(plain: Covers) -> Self {
        Self {
            plain,
            origin: Name::root(),
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
            self.grow(line);
            self.close(&mut found);
        }
        self.grow(piece);
    }

    /// The end of the file.
    pub fn finish(mut self, mut found: impl FnMut(&Name, Covers, Says)) -> Report {
        if !self.rest.is_empty() || self.skip {
            self.close(&mut found);
        }
        self.report
    }

    fn grow(&mut self, bytes: &[u8]) {
        if self.skip {
            return;
        }
        if self.rest.len() + bytes.len() > LONGEST {
            self.skip = true;
            return;
        }
        self.rest.extend_from_slice(bytes);
    }

    fn close(&mut self, found: &mut impl FnMut(&Name, Covers, Says)) {
        self.line += 1;
        let bytes = std::mem::take(&mut self.rest);
        let is_long = std::mem::take(&mut self.skip);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_start_matches('\u{feff}').trim();
        let line = if is_long { Line::Garbage } else { self.read(text) };
        match line {
            Line::Nothing => {}
            Line::Unsupported => self.report.unsupported += 1,
            Line::Garbage => self.garbage(text),
            Line::Names(names) => {
                let mut all_bad = true;
                for (name, covers, says) in names {
                    if let Some(name) = name_of(&name) {
                        found(&name, covers, says);
                        self.report.entries += 1;
                        all_bad = false;
                    }
                }
                if all_bad {
                    self.garbage(text);
                }
            }
        }
        self.rest = bytes;
        self.rest.clear();
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

    fn read<'a>(&mut self, text: &'a str) -> Line<'a> {
        match text.as_bytes() {
            [] | [b'#' | b'!' | b';' | b'[', ..] => return Line::Nothing,
            [b'$', ..] => return self.directive(text),
            [b'|', b'|', ..] => return adblock(text, Says::Refuse),
            [b'@', b'@', ..] => return adblock(text.trim_start_matches('@'), Says::Permit),
            _ => {}
        }
        if ["##", "#@#", "#?#", "#$#", "#%#"]
            .iter()
            .any(|mark| text.contains(mark))
        {
            return Line::Unsupported; // what a page looks like
        }
        let text = text.split('#').next().unwrap_or_default().trim_end();
        if let Some(line) = dnsmasq(text) {
            return line;
        }
        let mut words = text.split_whitespace();
        let Some(first) = words.next() else {
            return Line::Nothing;
        };
        if first.parse::<IpAddr>().is_ok() {
            return hosts(first, words);
        }
        let rest: Vec<&str> = words.collect();
        if rest.is_empty() {
            return self.plain(first);
        }
        self.policy_zone(first, &rest)
    }

    fn plain<'a>(&self, word: &'a str) -> Line<'a> {
        let below = word.strip_prefix("*.").or_else(|| word.strip_prefix('.'));
        match below {
            Some(zone) => Line::Names(vec![(zone.into(), Covers::Zone, Says::Refuse)]),
            None if word.contains(['/', '^', '$', '*', ':', '|']) => Line::Unsupported,
            None if !word.contains('.') => Line::Garbage,
            None => Line::Names(vec![(word.into(), self.plain, Says::Refuse)]),
        }
    }

    /// `$TTL`, `$ORIGIN`.
    fn directive(&mut self, text: &str) -> Line<'static> {
        let mut words = text.split_whitespace();
        match (words.next(), words.next()) {
            (Some("$ORIGIN"), Some(name)) => match name.parse() {
                Ok(name) => {
                    self.origin = name;
                    Line::Nothing
                }
                Err(_) => Line::Garbage,
            },
            (Some("$TTL"), Some(_)) => Line::Nothing,
            _ => Line::Unsupported,
        }
    }

    /// `owner [TTL] [IN] CNAME target`, and the zone's own records.
    fn policy_zone<'a>(&mut self, owner: &'a str, rest: &[&'a str]) -> Line<'a> {
        let mut rest = rest.iter().skip_while(|word| {
            word.eq_ignore_ascii_case("IN") || word.bytes().all(|byte| byte.is_ascii_digit())
        });
        let (Some(kind), target) = (rest.next(), rest.next()) else {
            return Line::Garbage;
        };
        match kind.to_ascii_uppercase().as_str() {
            "SOA" => {
                if let Some(zone) = owner.strip_suffix('.').and_then(|zone| zone.parse().ok()) {
                    self.origin = zone;
                }
                return Line::Nothing;
            }
            "NS" => return Line::Nothing,
            "CNAME" => {}
            "A" | "AAAA" | "TXT" | "MX" | "SRV" | "DNAME" => return Line::Unsupported,
            _ => return Line::Garbage,
        }
        let says = match target.map(|target| target.to_ascii_lowercase()).as_deref() {
            Some("." | "*." | "rpz-drop.") => Says::Refuse,
            Some("rpz-passthru.") => Says::Permit,
            _ => return Line::Unsupported,
        };
        let owner = self.below_origin(owner);
        if owner.contains(".rpz-") || owner.ends_with("rpz-ip") {
            return Line::Unsupported; // triggers other than the name asked for
        }
        match owner.strip_prefix("*.") {
            Some(zone) => Line::Names(vec![(zone.to_owned().into(), Covers::Zone, says)]),
            None => Line::Names(vec![(owner.into(), Covers::Name, says)]),
        }
    }

    /// Relative to the zone that the file is of; as an absolute owner it ends in it.
    fn below_origin(&self, owner: &str) -> String {
        let origin = self.origin.to_string();
        let absolute = owner.strip_suffix('.');
        let cut = absolute.and_then(|name| name.strip_suffix(&origin)?.strip_suffix('.'));
        cut.or(absolute).unwrap_or(owner).to_owned()
    }
}

/// `address name…`: only what sends names nowhere.
fn hosts<'a>(address: &str, names: impl Iterator<Item = &'a str>) -> Line<'a> {
    let nowhere = matches!(
        address,
        "0.0.0.0" | "127.0.0.1" | "::" | "::1" | "127.0.1.1" | "255.255.255.255"
    ) || address.starts_with("fe80::1")
        || address.starts_with("ff0");
    if !nowhere {
        return Line::Unsupported;
    }
    let is_own = |name: &str| {
        matches!(
            name,
            "localhost" | "localhost.localdomain" | "local" | "broadcasthost" | "0.0.0.0"
        ) || name.starts_with("ip6-")
    };
    let mut own = false;
    let names: Vec<_> = names
        .filter(|name| {
            own |= is_own(name);
            !is_own(name)
        })
        .map(|name| (Cow::from(name), Covers::Name, Says::Refuse))
        .collect();
    match (names.is_empty(), own) {
        (true, true) => Line::Nothing,
        (true, false) => Line::Garbage,
        (false, _) => Line::Names(names),
    }
}

/// `||name^`, with the few conditions that change nothing for a name server.
fn adblock(text: &str, says: Says) -> Line<'_> {
    let Some(rule) = text.strip_prefix("||") else {
        return Line::Unsupported;
    };
    let (pattern, options) = rule.split_once('$').unwrap_or((rule, ""));
    let harmless = |option: &str| {
        matches!(
            option,
            "" | "important" | "all" | "third-party" | "3p" | "document" | "doc"
        )
    };
    if !options.split(',').all(harmless) {
        return Line::Unsupported;
    }
    let name = pattern
        .strip_suffix('^')
        .or_else(|| pattern.strip_suffix("^|"))
        .unwrap_or(pattern);
    let name = name.strip_prefix("*.").unwrap_or(name);
    if name.contains(['/', '^', '*', '|', ':', '?', '=']) {
        return Line::Unsupported;
    }
    Line::Names(vec![(name.into(), Covers::Zone, says)])
}

/// `address=/a/b/…`, `server=/a/`, `local=/a/`.
fn dnsmasq(text: &str) -> Option<Line<'_>> {
    let (key, value) = text.split_once('=')?;
    if !matches!(key, "address" | "server" | "local") {
        return None;
    }
    let Some(rest) = value.strip_prefix('/') else {
        return Some(Line::Unsupported);
    };
    let Some((names, target)) = rest.rsplit_once('/') else {
        return Some(Line::Garbage);
    };
    let nowhere = matches!(target, "" | "0.0.0.0" | "::" | "127.0.0.1" | "::1" | "#")
        && !(key == "server" && !target.is_empty());
    if !nowhere {
        return Some(Line::Unsupported);
    }
    let zone = |name| (Cow::from(name), Covers::Zone, Says::Refuse);
    Some(Line::Names(names.split('/').map(zone).collect()))
}

/// Names of people's languages are written as DNS has them (IDNA). A single label, or the root, is no entry: it would
/// take a whole top-level domain away.
fn name_of(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let ascii = if text.is_ascii() {
        Cow::from(text)
    } else {
        Cow::from(idna::domain_to_ascii(text).ok()?)
    };
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !ascii.bytes().all(is_usual) || ascii.parse::<IpAddr>().is_ok() {
        return None;
    }
    ascii
        .parse::<Name>()
        .ok()
        .filter(|name| name.labels().count() > 1)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<String>, Report) {
        let mut all = Vec::new();
        let mut note = |name: &Name, covers, says| {
            let below = if covers == Covers::Zone { "*." } else { "" };
            let sign = if says == Says::Permit { "+" } else { "-" };
            all.push(format!("{sign}{below}{name}"));
        };
        let mut reader = Reader::new(Covers::Name);
        reader.feed(text.as_bytes(), &mut note);
        let report = reader.finish(&mut note);
        (all, report)
    }

    #[test]
    fn each_form_is_read_as_its_own_tools_read_it() {
        for (line, entries) in [
            ("0.0.0.0 a.test b.test # both", &["-a.test", "-b.test"][..]),
            ("127.0.0.1\tlocalhost\n::1 ip6-localhost", &[]),
            ("\u{feff}a.test\r\n", &["-a.test"]),
            ("*.a.test\n.b.test", &["-*.a.test", "-*.b.test"]),
            (
                "||a.test^\n||b.test^$important\n@@||c.a.test^",
                &["-*.a.test", "-*.b.test", "+*.c.a.test"],
            ),
            (
                "address=/a.test/0.0.0.0\nlocal=/b.test/\naddress=/c.test/d.test/",
                &["-*.a.test", "-*.b.test", "-*.c.test", "-*.d.test"],
            ),
            (
                "$ORIGIN rpz.test.\n$TTL 60\n@ SOA a. b. 1 2 3 4 5\na.example CNAME .\n*.a.example 300 IN CNAME *.\nb.example.rpz.test. CNAME rpz-passthru.",
                &["-a.example", "-*.a.example", "+b.example"],
            ),
            ("bücher.test", &["-xn--bcher-kva.test"]),
        ] {
            let (found, report) = read(line);
            assert_eq!(found, entries, "{line}");
            assert_eq!((report.garbage, report.unsupported), (0, 0), "{line}");
        }
    }

    #[test]
    fn what_a_name_server_cannot_do_is_passed_over_and_counted() {
        for line in [
            "||a.test/path^",
            "||a.test^$script",
            "a.test##.banner",
            "@@/ads/",
            "192.0.2.1 a.test",
            "a.test CNAME walled.garden.",
            "32.1.2.0.192.rpz-ip CNAME .",
            "server=/a.test/192.0.2.1",
        ] {
            let (found, report) = read(line);
            assert_eq!(
                (found.len(), report.unsupported, report.garbage),
                (0, 1, 0),
                "{line}"
            );
        }
    }

    #[test]
    fn garbage_is_counted_and_named() {
        let long = "a".repeat(LONGEST + 1);
        let (found, report) = read(&format!("a.test\n<html>\ncom\n{long}\nb.test\n"));
        assert_eq!(found, ["-a.test", "-b.test"]);
        assert_eq!(report.garbage, 3);
        let lines: Vec<_> = report.first.iter().map(|garbage| garbage.line).collect();
        assert_eq!(lines, [2, 3, 4]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_pieces_make_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
            let all = |pieces: &[&[u8]]| {
                let mut names = Vec::new();
                let mut reader = Reader::new(Covers::Zone);
                for piece in pieces {
                    reader.feed(piece, |name, covers, says| names.push((name.clone(), covers, says)));
                }
                let report = reader.finish(|_, _, _| ());
                (names, report.garbage + report.unsupported)
            };
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            let with_end = [&bytes[..], b"\n"].concat();
            let whole = all(&[&with_end]);
            prop_assert_eq!(whole, all(&[one, two, b"\n"]));
        }
    }
}
