//! Where a stream goes: the authority of CONNECT (RFC 9110 §9.3.6), the path of connect-udp (RFC 9298 §3).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// What stands before the host in the path of connect-udp.
pub const UDP_PREFIX: &str = "/.well-known/masque/udp/";

/// A host and a port of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whom.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// A name, in lower case, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Letters, digits, `-`, `_` and dots; at most 253 octets.
    Name(String),
    /// IPv4.
    V4(Ipv4Addr),
    /// IPv6.
    V6(Ipv6Addr),
}

/// What is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no target: write HOST:PORT, an IPv6 address in brackets")]
pub struct NoTarget;

impl Target {
    /// Of an address; None for port 0.
    pub fn new(address: IpAddr, port: u16) -> Option<Self> {
        let host = match address {
            IpAddr::V4(address) => Host::V4(address),
            IpAddr::V6(address) => Host::V6(address),
        };
        (port != 0).then_some(Self { host, port })
    }

    /// The path of connect-udp.
    pub fn udp_path(&self) -> String {
        let host = self.host.to_string().replace(':', "%3A");
        format!("{UDP_PREFIX}{host}/{}/", self.port)
    }

    /// From the path of connect-udp.
    ///
    /// # Errors
    /// [`NoTarget`]
    pub fn from_udp_path(path: &str) -> Result<Self, NoTarget> {
        let rest = path
            .strip_prefix(UDP_PREFIX)
            .and_then(|rest| rest.strip_suffix('/'))
            .ok_or(NoTarget)?;
        let (host, port) = rest.split_once('/').ok_or(NoTarget)?;
        let host = decoded(host).ok_or(NoTarget)?;
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => Host::V6(address),
            Err(_) => name_or_v4(&host)?,
        };
        let port = decoded(port).ok_or(NoTarget)?;
        Ok(Self {
            host,
            port: port_of(&port)?,
        })
    }
}

impl Host {
    /// Where it is one.
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(address) => Some(IpAddr::V6(*address)),
        }
    }
}

/// The authority of CONNECT.
impl FromStr for Target {
    type Err = NoTarget;
    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (host, port) = text.rsplit_once(':').ok_or(NoTarget)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let address = rest.strip_suffix(']').ok_or(NoTarget)?;
                Host::V6(address.parse().map_err(|_| NoTarget)?)
            }
            None => name_or_v4(host)?,
        };
        Ok(Self {
            host,
            port: port_of(port)?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6(address) => write!(formatter, "[{address}]:{}", self.port),
            host => write!(formatter, "{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::V4(address) => address.fmt(formatter),
            Self::V6(address) => address.fmt(formatter),
        }
    }
}

fn port_of(text: &str) -> Result<u16, NoTarget> {
    // from_str would take a sign
    let digits =
        text.bytes().all(|digit| digit.is_ascii_digit()) && !text.starts_with('0') && text.len() <= 5;
    let port = digits.then(|| text.parse().ok()).flatten();
    port.ok_or(NoTarget)
}

fn name_or_v4(text: &str) -> Result<Host, NoTarget> {
    if let Ok(address) = text.parse() {
        return Ok(Host::V4(address));
    }
    let letter = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    let bare = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(letter);
    // what ends in a number is an address that some resolver would read in its own way ("127.1", "0x7f.1")
    let last = bare.rsplit('.').next().unwrap_or_default();
    let number = last.starts_with(|first: char| first.is_ascii_digit())
        && (last.bytes().all(|digit| digit.is_ascii_digit())
            || last.starts_with("0x")
            || last.starts_with("0X"));
    if bare.len() > 253 || number || !bare.split('.').all(label) {
        return Err(NoTarget);
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

fn decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let (mut octets, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let (pair, after) = rest.split_at_checked(2)?;
        rest = after;
        let digit = |place: usize| char::from(*pair.get(place)?).to_digit(16);
        octets.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
    }
    String::from_utf8(octets).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn authorities_are_strict() {
        for good in [
            "example.com:443",
            "192.0.2.1:1",
            "[2001:db8::1]:65535",
            "a_b.example.:80",
            "xn--1.example:1",
        ] {
            assert_eq!(good.parse::<Target>().unwrap().to_string(), good);
        }
        let bad = [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "a:01",
            "a b:1",
            "u@a:1",
            "::1:80",
            "[::1]",
            "[a]:1",
            "a..b:1",
            "[::1:1",
            "a/b:1",
            "127.1:80",
            "0x7f.0x1:80",
            "2130706433:80",
            "[fe80::1%eth0]:1",
            ".:1",
            "é.example:1",
            "a:1:2",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Target>(), Err(NoTarget), "{bad}");
        }
    }

    /// Examples of RFC 9298 §2, §3.
    #[test]
    fn paths_are_those_of_the_rfc() {
        let target = Target::from_udp_path("/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/").unwrap();
        assert_eq!(target.to_string(), "[2001:db8::42]:443");
        let path = "/.well-known/masque/udp/192.0.2.6/443/";
        assert_eq!(Target::from_udp_path(path).unwrap().udp_path(), path);
        for bad in [
            "/",
            UDP_PREFIX,
            "/.well-known/masque/udp/a/1",
            "/.well-known/masque/udp/a%2/1/",
            "/.well-known/masque/udp/%ff/1/",
            "/.well-known/masque/udp/a/1/x/",
        ] {
            assert_eq!(Target::from_udp_path(bad), Err(NoTarget), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_so(text in "[ -~]{0,40}|[a-z0-9.\\-]{1,20}:[0-9]{1,5}|\\[[0-9a-f:.]{2,20}\\]:[0-9]{1,5}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target.clone()));
                prop_assert_eq!(Target::from_udp_path(&target.udp_path()), Ok(target));
            }
            let _ = Target::from_udp_path(&format!("{UDP_PREFIX}{text}"));
        }
    }
}
