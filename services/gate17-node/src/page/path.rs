//! What a request names: a path, and a part of what is there.

use http::HeaderValue;

/// The path of a target, percents decoded, dots and double slashes resolved; None where it is none.
pub(super) fn of(target: &str) -> Option<String> {
    let rest = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let decoded = decode(path.strip_prefix('/')?)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut words = decoded.split('/').peekable();
    let mut is_folder = true;
    while let Some(word) = words.next() {
        let is_last = words.peek().is_none();
        match word {
            "" | "." => is_folder = is_last,
            ".." => {
                kept.pop()?;
                is_folder = is_last;
            }
            word => {
                kept.push(word);
                is_folder = false;
            }
        }
    }
    let end = if is_folder && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

fn decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut octets = path.bytes();
    while let Some(octet) = octets.next() {
        let octet = if octet == b'%' {
            let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
            let (high, low) = (digit(octets.next())?, digit(octets.next())?);
            u8::try_from(high << 4 | low).ok().filter(|octet| *octet != 0)?
        } else {
            octet
        };
        decoded.push(octet);
    }
    // what is no text names nothing that is here
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// What of a page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// Everything: what was asked is not understood.
    All,
    /// From one octet to before another.
    Part(usize, usize),
    /// Nothing that is there.
    Beyond,
}

/// One range of octets (RFC 9110, section 14).
pub(super) fn range(value: &HeaderValue, total: usize) -> Range {
    let asked = value.to_str().unwrap_or_default().strip_prefix("bytes=");
    let Some((from, to)) = asked.and_then(|asked| asked.split_once('-')) else {
        return Range::All;
    };
    let (from, to) = match (from.trim().parse::<usize>(), to.trim().parse::<usize>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(total)),
        (Ok(from), Err(_)) if to.trim().is_empty() => (from, total),
        (Err(_), Ok(last)) if from.trim().is_empty() => (total.saturating_sub(last), total),
        (Ok(_), Ok(_)) => return Range::Beyond,
        _ => {
            return if to.contains(',') {
                Range::All
            } else {
                Range::Beyond
            };
        }
    };
    if from < to {
        Range::Part(from, to)
    } else {
        Range::Beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_folder() {
        for (target, path) in [
            ("/", Some("/")),
            ("/a/./b//c?x=/../", Some("/a/b/c")),
            ("/a/../b/", Some("/b/")),
            ("/a/..", Some("/")),
            ("/..", None),
            ("/%2e%2e/x", None),
            ("/%zz", None),
            ("/%00", None),
            ("/%", None),
            ("*", None),
            ("http://y", Some("/")),
            ("http://y/a", Some("/a")),
            ("a:1", None),
        ] {
            assert_eq!(of(target).as_deref(), path, "{target}");
        }
    }

    #[test]
    fn a_range_is_within_its_page() {
        for (text, read) in [
            ("bytes=0-3", Range::Part(0, 4)),
            ("bytes=5-", Range::Part(5, 10)),
            ("bytes=-4", Range::Part(6, 10)),
            ("bytes=5-100", Range::Part(5, 10)),
            ("bytes=10-", Range::Beyond),
            ("bytes=x-y", Range::Beyond),
            ("lines=1-2", Range::All),
        ] {
            assert_eq!(range(&HeaderValue::from_static(text), 10), read, "{text}");
        }
    }
}
