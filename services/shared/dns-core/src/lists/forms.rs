//! What single lines mean, in each form but policy zones.

use std::net::IpAddr;

use super::{
    Covers, Says,
    parse::{Emit, Line},
};

/// Names that every hosts file has for the host itself and its links.
fn is_own(name: &str) -> bool {
    matches!(
        name,
        "localhost" | "localhost.localdomain" | "local" | "broadcasthost" | "0.0.0.0"
    ) || name.starts_with("ip6-")
}

/// `address name…`, where `first` is an address.
pub(super) fn hosts<'a>(
    first: &str,
    names: impl Iterator<Item = &'a str>,
    emit: &mut Emit<'_>,
) -> Option<Line> {
    let (address, _interface) = first.split_once('%').unwrap_or((first, ""));
    let address: IpAddr = address.parse().ok()?;
    let leads_nowhere = address.is_unspecified() || address.is_loopback();
    let (mut line, mut any) = (Line::Comment, false);
    for name in names.take_while(|name| !name.starts_with('#')) {
        any = true;
        if is_own(name) {
            continue;
        }
        if !leads_nowhere {
            return Some(Line::Unsupported);
        }
        let (name, comment) = name
            .split_once('#')
            .map_or((name, false), |(name, _)| (name, true));
        emit(name, Covers::Name, Says::Refuse);
        line = Line::Names;
        if comment {
            break;
        }
    }
    Some(if any { line } else { Line::Garbage })
}

/// Rules of pages, which follow a `#` that no blank precedes: `a.test##.banner`, `#@#`, `#?#`, `#$#`, `#%#`.
pub(super) fn is_cosmetic(text: &str) -> bool {
    let Some((before, after)) = text.split_once('#') else {
        return false;
    };
    let is_mark = ["#", "@#", "?#", "$#", "%#", "@?#", "@$#", "$?#"]
        .iter()
        .any(|mark| after.starts_with(mark));
    is_mark && !before.is_empty() && !before.ends_with(char::is_whitespace)
}

/// A name alone on its line.
pub(super) fn plain(word: &str, covers: Covers, emit: &mut Emit<'_>) -> Line {
    if let Some(zone) = word.strip_prefix("*.").or_else(|| word.strip_prefix('.')) {
        emit(zone, Covers::Zone, Says::Refuse);
        return Line::Names;
    }
    if word.contains(['/', '^', '$', '*', ':', '|']) {
        return Line::Unsupported;
    }
    if !word.trim_end_matches('.').contains('.') {
        return Line::Garbage;
    }
    emit(word, covers, Says::Refuse);
    Line::Names
}

/// `||name^` and `|name^`, `@@` before them; with options only where these take nothing away from it.
pub(super) fn adblock(text: &str, says: Says, emit: &mut Emit<'_>) -> Line {
    let (rule, options) = text.split_once('$').unwrap_or((text, ""));
    if !options
        .split(',')
        .all(|option| matches!(option, "" | "important" | "all"))
    {
        return Line::Unsupported;
    }
    let (pattern, covers) = match (rule.strip_prefix("||"), rule.strip_prefix('|')) {
        (Some(pattern), _) => match pattern.strip_prefix("*.") {
            Some(zone) => (zone, Covers::Below),
            None => (pattern, Covers::Zone),
        },
        (None, Some(pattern)) => (pattern, Covers::Name),
        (None, None) => return Line::Unsupported,
    };
    let name = pattern
        .strip_suffix('^')
        .or_else(|| pattern.strip_suffix("^|"))
        .unwrap_or(pattern);
    if name.contains(['/', '^', '*', '|', ':', '?', '=']) {
        return Line::Unsupported;
    }
    emit(name, covers, says);
    Line::Names
}

/// `address=/a/b/…`, `server=/a/`, `local=/a/`, as dnsmasq(8) has them; other settings are nothing to us.
pub(super) fn dnsmasq(text: &str, emit: &mut Emit<'_>) -> Option<Line> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim_end();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
        return None;
    }
    if !matches!(key, "address" | "server" | "local") {
        return Some(Line::Unsupported);
    }
    // a comment needs a blank before it: `#` is also a target
    let value = value.trim_start();
    let value = value.split(char::is_whitespace).next().unwrap_or_default();
    let Some(rest) = value.strip_prefix('/') else {
        return Some(Line::Unsupported);
    };
    let Some((names, target)) = rest.rsplit_once('/') else {
        return Some(Line::Garbage);
    };
    let nowhere = |target: &str| {
        target
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_unspecified() || address.is_loopback())
    };
    let says = match (key, target) {
        (_, "") | ("address", "#") => Says::Refuse,
        ("server" | "local", "#") => Says::Permit, // the usual servers are asked
        ("address", target) if nowhere(target) => Says::Refuse,
        _ => return Some(Line::Unsupported),
    };
    if names
        .split('/')
        .any(|name| name.is_empty() || name.contains(['*', '#']))
    {
        return Some(Line::Unsupported);
    }
    for name in names.split('/') {
        emit(name.trim_start_matches('.'), Covers::Zone, says);
    }
    Some(Line::Names)
}
