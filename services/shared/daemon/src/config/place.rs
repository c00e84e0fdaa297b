//! Where in a file something is said.

use toml::de::{DeTable, DeValue};

/// The line, counted from 1, of an octet.
pub(super) fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|octet| **octet == b'\n').count() + 1
}

/// Of a key like `firewall.dns_v4`.
pub(super) fn of_key(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut words = key.split('.').peekable();
    loop {
        let word = words.next()?;
        let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == word)?;
        if words.peek().is_none() {
            return Some(line(text, name.span().start));
        }
        let DeValue::Table(inner) = value.get_ref() else {
            return None;
        };
        table = inner;
    }
}

/// Of the first thing that a file says.
pub(super) fn first_key(text: &str) -> usize {
    let first = DeTable::parse(text)
        .ok()
        .and_then(|document| document.get_ref().keys().map(|name| name.span().start).min());
    line(text, first.unwrap_or(0))
}
