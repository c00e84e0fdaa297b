//! Response policy zones (draft-vixie-dnsop-dns-rpz), read line by line as a zone file (RFC 1035 §5).

use super::{
    Covers, Says,
    parse::{Emit, Line},
};

/// An SOA record in brackets has no more lines.
const SOA_LINES: u8 = 16;
/// Triggers other than the name that is asked for, as the last label of an owner.
const OTHER_TRIGGERS: [&str; 4] = ["rpz-ip", "rpz-client-ip", "rpz-nsip", "rpz-nsdname"];

/// What earlier lines of the file say about later ones. Names are without the closing dot, lower-cased.
#[derive(Debug, Default)]
pub(super) struct PolicyZone {
    /// The policy zone's own name, where the file tells: owners end in it, and it is cut off.
    apex: Option<String>,
    /// `$ORIGIN`.
    origin: String,
    /// For lines that begin with a blank.
    owner: String,
    /// Lines of an SOA record that may still come.
    soa: u8,
}

impl PolicyZone {
    /// Whether the line belongs to an SOA record that an earlier one began.
    pub(super) fn is_within_soa(&mut self, text: &str) -> bool {
        if self.soa == 0 {
            return false;
        }
        self.soa = if text.contains(')') { 0 } else { self.soa - 1 };
        true
    }

    /// `$ORIGIN`, `$TTL`, …
    pub(super) fn directive(&mut self, text: &str) -> Line {
        let mut words = text.split_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else {
            return Line::Garbage;
        };
        if key.eq_ignore_ascii_case("$TTL") {
            return Line::Comment;
        }
        if !key.eq_ignore_ascii_case("$ORIGIN") {
            return Line::Unsupported;
        }
        self.origin = self.absolute(value);
        self.apex.get_or_insert_with(|| self.origin.clone());
        Line::Comment
    }

    /// `[owner] [TTL] [IN] TYPE data`, in any order of the two in the middle.
    pub(super) fn record(&mut self, words: &[&str], is_continued: bool, emit: &mut Emit<'_>) -> Line {
        let (owner, rest) = match words.split_first() {
            Some((owner, rest)) if !is_continued => (self.absolute(owner), rest),
            _ => (self.owner.clone(), words),
        };
        let mut rest = rest
            .iter()
            .skip_while(|word| word.eq_ignore_ascii_case("IN") || is_ttl(word));
        let (Some(kind), Some(data)) = (rest.next(), rest.next()) else {
            return Line::Garbage;
        };
        let line = match kind.to_ascii_uppercase().as_str() {
            "SOA" => {
                let opened = words.iter().any(|word| word.contains('('));
                let closed = words.iter().any(|word| word.contains(')'));
                self.soa = if opened && !closed { SOA_LINES } else { 0 };
                self.apex = Some(owner.clone());
                Line::Comment
            }
            "NS" => Line::Comment,
            "CNAME" => self.policy(&owner, data, emit),
            "A" | "AAAA" | "TXT" | "MX" | "SRV" | "PTR" | "DNAME" | "HTTPS" | "SVCB" | "RRSIG" | "DNSKEY"
            | "NSEC" => Line::Unsupported,
            _ => return Line::Garbage,
        };
        self.owner = owner;
        line
    }

    fn policy(&self, owner: &str, data: &str, emit: &mut Emit<'_>) -> Line {
        let apex = self.apex.as_deref().unwrap_or_default();
        let trigger = match owner.strip_suffix(apex) {
            Some(cut) if apex.is_empty() => cut,
            Some(cut) => match cut.strip_suffix('.') {
                Some(cut) => cut,
                None => return Line::Unsupported, // the zone itself, or beside it
            },
            None => return Line::Unsupported,
        };
        let last = trigger.rsplit('.').next().unwrap_or_default();
        if OTHER_TRIGGERS.contains(&last) {
            return Line::Unsupported;
        }
        let (name, covers) = match trigger.strip_prefix("*.") {
            Some(zone) => (zone, Covers::Below),
            None => (trigger, Covers::Name),
        };
        let data = data.to_ascii_lowercase();
        let says = match data.as_str() {
            "." | "*." | "rpz-drop." => Says::Refuse,
            "rpz-passthru." => Says::Permit,
            // the old way to say the same
            other if other.strip_suffix('.') == Some(name) => Says::Permit,
            _ => return Line::Unsupported,
        };
        if name.is_empty() || name == "*" {
            return Line::Unsupported; // everything
        }
        emit(name, covers, says);
        Line::Names
    }

    fn absolute(&self, name: &str) -> String {
        let mut name = name.to_ascii_lowercase();
        if name == "@" {
            return self.origin.clone();
        }
        if name.ends_with('.') {
            name.pop();
        } else if !self.origin.is_empty() {
            name.push('.');
            name.push_str(&self.origin);
        }
        name
    }
}

/// Whether a word of a record is its lifetime: `300`, `1h30m`.
pub(super) fn is_ttl(word: &str) -> bool {
    word.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"smhdwSMHDW".contains(&byte))
}
