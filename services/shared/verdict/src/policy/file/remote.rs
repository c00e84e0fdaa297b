//! The words for a remote end: `192.0.2.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, `lan`, `example.org`, `*.example.org`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    FileError,
    reader::{Key, Reader, Value},
};
use crate::{Scope, policy::model::Remote};

pub(super) fn parse(key: &Key<'_>, value: &Value<'_>, reader: &Reader<'_>) -> Result<Remote, FileError> {
    let text = reader.string(key, value)?;
    read(text).map_err(|remedy| {
        reader.error(
            value.span(),
            format!("remote = {text:?} is nothing that a connection could go to"),
            remedy,
        )
    })
}

/// Or the remedy.
fn read(text: &str) -> Result<Remote, String> {
    if let Some(scope) = Scope::parse(text) {
        return Ok(Remote::Scope(scope));
    }
    if text.contains('/') {
        return network(text).map(Remote::Network);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Remote::Network(address.to_canonical().into()));
    }
    if let Some(range) = range(text) {
        return range;
    }
    if text == "*" {
        return Err("leave the line out to match all".to_owned());
    }
    let (zone, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
    let one_word = !name.contains('.'); // `nas.` with its dot is meant; `lann` is a slip
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    check_name(&name)?;
    if zone {
        return Ok(Remote::Zone(name));
    }
    if one_word {
        let words = "write a scope (localhost, lan, internet, multicast)";
        return Err(format!(
            "{words}, or close a name of one word with a dot: \"{name}.\""
        ));
    }
    Ok(Remote::Domain(name))
}

fn network(text: &str) -> Result<IpNet, String> {
    let help = "write a network as 10.0.0.0/8 or 2001:db8::/32";
    let network: IpNet = text.parse().map_err(|_| help.to_owned())?;
    if network.addr() != network.network() {
        return Err(format!(
            "the address has bits beyond its prefix: write {}, or {}",
            network.trunc(),
            network.addr()
        ));
    }
    if network.addr().to_canonical() != network.addr() {
        return Err("connections are never seen with v4-mapped addresses: write the IPv4 network".to_owned());
    }
    Ok(network)
}

/// `None`: these are not two addresses.
fn range(text: &str) -> Option<Result<Remote, String>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (
        first.trim().parse::<IpAddr>().ok()?,
        last.trim().parse::<IpAddr>().ok()?,
    );
    let (first, last) = (first.to_canonical(), last.to_canonical());
    if first.is_ipv4() != last.is_ipv4() {
        return Some(Err("both ends of a range must be of one family".to_owned()));
    }
    if first > last {
        return Some(Err(format!(
            "the smaller address comes first: write {last}-{first}"
        )));
    }
    Some(Ok(Remote::Range(first, last)))
}

/// Labels of 1 to 63 letters, digits, hyphens and underscores; 253 octets at most; the last begins with a letter, or it is
/// a slip in an address.
fn check_name(name: &str) -> Result<(), String> {
    if !name.is_ascii() {
        return Err("write the name as DNS does, in its xn-- form".to_owned());
    }
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(fits);
    let last = name.rsplit('.').next().unwrap_or_default();
    let letter = last
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic());
    if name.len() <= 253 && letter && name.split('.').all(label) {
        return Ok(());
    }
    Err("write an address, a network (10.0.0.0/8), a range (10.0.0.1-10.0.0.9), a scope (localhost, lan, internet, \
         multicast), a name (example.org) or all names below one (*.example.org)"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read() {
        for (text, expected) in [
            ("192.0.2.1", Remote::Network("192.0.2.1/32".parse().unwrap())),
            (
                "::ffff:192.0.2.1",
                Remote::Network("192.0.2.1/32".parse().unwrap()),
            ),
            ("2001:db8::1", Remote::Network("2001:db8::1/128".parse().unwrap())),
            ("10.0.0.0/8", Remote::Network("10.0.0.0/8".parse().unwrap())),
            (
                "10.0.0.1-10.0.0.9",
                Remote::Range([10, 0, 0, 1].into(), [10, 0, 0, 9].into()),
            ),
            ("lan", Remote::Scope(Scope::Lan)),
            ("WWW.Example.org.", Remote::Domain("www.example.org".into())),
            ("nas.", Remote::Domain("nas".into())),
            (
                "my-host.example.org",
                Remote::Domain("my-host.example.org".into()),
            ),
            ("*.example.org", Remote::Zone("example.org".into())),
            ("*.org", Remote::Zone("org".into())),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_slip_is_told_how_to_write_it() {
        for (text, remedy) in [
            ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1"),
            ("10.0.0.0/33", "write a network as 10.0.0.0/8"),
            ("::ffff:0:0/96", "write the IPv4 network"),
            ("10.0.0.9-10.0.0.1", "write 10.0.0.1-10.0.0.9"),
            ("10.0.0.1-2001:db8::1", "one family"),
            ("10.0.0.1-9", "a range (10.0.0.1-10.0.0.9)"),
            ("10.0.0", "write an address"),
            ("lann", "write a scope"),
            ("*", "leave the line out"),
            ("*example.org", "(*.example.org)"),
            ("bücher.example", "xn--"),
            ("a..b", "write an address"),
            ("", "write an address"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(remedy), "{text}: {error}");
        }
    }
}
