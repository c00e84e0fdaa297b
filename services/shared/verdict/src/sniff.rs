//! The name that a TCP connection asks for, read from the first octets that its opener sends: TLS server name indication
//! (RFC 6066 §3, RFC 8446 §4.1.2), or HTTP/1's `Host` (RFC 9112 §3.2).
//!
//! A QUIC connection says the same TLS hello in its first datagrams: [`quic`].
//!
//! The opener chooses these words: a name found here says what it *claims* to ask for. Total over any bytes.

pub mod quic;

/// What the first octets tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// The name; lower case, no closing dot.
    Name(String),
    /// There is none.
    None,
    /// It may still come.
    NeedMore,
}

/// Reads the name from all that the opener has said so far.
pub fn name(said: &[u8]) -> Sniffed {
    match said {
        [] => Sniffed::NeedMore,
        [HANDSHAKE, ..] => tls(said),
        [first, ..] if first.is_ascii_uppercase() => http(said),
        _ => Sniffed::None,
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;

fn tls(said: &[u8]) -> Sniffed {
    let (handshake, complete) = records(said);
    match hello(&handshake) {
        Sniffed::NeedMore if complete => Sniffed::None,
        sniffed => sniffed,
    }
}

/// A TLS client hello, without records around it, as far as it was said.
fn hello(handshake: &[u8]) -> Sniffed {
    match hello_name(handshake) {
        Ok(Some(name)) => found(&name),
        Ok(None) => Sniffed::None,
        Err(Cut) => Sniffed::NeedMore,
    }
}

/// The handshake octets of all leading records; true where something else follows, so that no more will come.
fn records(mut said: &[u8]) -> (Vec<u8>, bool) {
    let mut handshake = Vec::new();
    while let [kind, major, _, l0, l1, rest @ ..] = said {
        if *kind != HANDSHAKE || *major != 3 {
            return (handshake, true);
        }
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        handshake.extend_from_slice(rest.get(..length).unwrap_or(rest));
        let Some(next) = rest.get(length..) else {
            return (handshake, false);
        };
        said = next;
    }
    (handshake, false)
}

/// There are fewer octets than the message says.
struct Cut;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Cut> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, octets: usize) -> Result<usize, Cut> {
        Ok(self
            .take(octets)?
            .iter()
            .fold(0, |number, octet| number << 8 | usize::from(*octet)))
    }

    /// A vector with a length of so many octets before it.
    fn vector(&mut self, octets: usize) -> Result<Self, Cut> {
        let length = self.number(octets)?;
        self.take(length).map(Reader)
    }
}

fn hello_name(handshake: &[u8]) -> Result<Option<String>, Cut> {
    let mut reader = Reader(handshake);
    if reader.number(1)? != usize::from(CLIENT_HELLO) {
        return Ok(None);
    }
    let mut hello = reader.vector(3)?;
    hello.take(2 + 32)?;
    hello.vector(1)?; // session id
    hello.vector(2)?; // cipher suites
    hello.vector(1)?; // compression methods
    let Ok(mut extensions) = hello.vector(2) else {
        return Ok(None);
    };
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut body = extensions.vector(2)?;
        if kind == usize::from(SERVER_NAME) {
            let mut names = body.vector(2)?;
            let host_name = names.number(1)? == 0;
            let name = names.vector(2)?;
            return Ok(host_name.then(|| String::from_utf8_lossy(name.0).into_owned()));
        }
    }
    Ok(None)
}

fn http(said: &[u8]) -> Sniffed {
    const METHODS: [&str; 9] = [
        "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE",
    ];
    let text = String::from_utf8_lossy(said);
    let method = text.split(' ').next().unwrap_or_default();
    if !METHODS.iter().any(|known| {
        if text.contains(' ') {
            *known == method
        } else {
            known.starts_with(method)
        }
    }) {
        return Sniffed::None;
    }
    let (head, complete) = text
        .split_once("\r\n\r\n")
        .map_or((&*text, false), |(head, _)| (head, true));
    // the last line may be cut while the head is not complete
    let usable = if complete {
        head
    } else {
        head.rsplit_once("\r\n").map_or("", |(lines, _)| lines)
    };
    let host = usable.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case("host").then(|| value.trim())
    });
    match host {
        Some(host) => found(without_port(host)),
        None if complete => Sniffed::None,
        None => Sniffed::NeedMore,
    }
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|octet| octet.is_ascii_digit()))
        .map_or(host, |(name, _)| name)
}

/// An address is no name.
fn found(name: &str) -> Sniffed {
    let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if is_address || !is_host_name(&name) {
        Sniffed::None
    } else {
        Sniffed::Name(name)
    }
}

/// Labels of 1 to 63 letters, digits, hyphens and underscores, 253 octets at most (RFC 1123 §2.1, and what is in use).
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(fits)
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn hello(name: &str) -> Vec<u8> {
        let mut server_name = vec![0];
        server_name.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        server_name.extend(name.as_bytes());
        let list = [
            &u16::try_from(server_name.len()).unwrap().to_be_bytes()[..],
            &server_name,
        ]
        .concat();
        let mut extensions = vec![0xff, 0x01, 0, 1, 0, 0, 0];
        extensions.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
        extensions.extend(list);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut handshake = vec![1, 0];
        handshake.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        handshake.extend(body);
        handshake
    }

    fn record(handshake: &[u8]) -> Vec<u8> {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(handshake.len()).unwrap().to_be_bytes());
        record.extend(handshake);
        record
    }

    #[test]
    fn a_tls_hello_says_its_name_however_it_is_cut() {
        let hello = hello("WWW.Example.org");
        let whole = record(&hello);
        assert_eq!(name(&whole), Sniffed::Name("www.example.org".into()));
        for end in 0..whole.len() {
            assert_eq!(name(&whole[..end]), Sniffed::NeedMore, "{end}");
        }
        let in_two = [record(&hello[..20]), record(&hello[20..])].concat();
        assert_eq!(name(&in_two), Sniffed::Name("www.example.org".into()));
    }

    #[test]
    fn a_request_says_its_host() {
        assert_eq!(
            name(b"GET / HTTP/1.1\r\nhost: Example.ORG:8080\r\n\r\n"),
            Sniffed::Name("example.org".into())
        );
        assert_eq!(name(b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"), Sniffed::None);
        assert_eq!(
            name(b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"),
            Sniffed::None
        );
        assert_eq!(name(b"GET / HTTP/1.1\r\nHost: exa"), Sniffed::NeedMore);
        assert_eq!(name(b"GE"), Sniffed::NeedMore);
        assert_eq!(name(b"GET / HTTP/1.0\r\n\r\n"), Sniffed::None);
    }

    #[test]
    fn other_protocols_have_no_name() {
        assert_eq!(name(b"SSH-2.0-OpenSSH_9.2\r\n"), Sniffed::None);
        assert_eq!(name(&[0, 1, 2]), Sniffed::None);
        assert_eq!(name(&record(&[2, 0, 0, 0])), Sniffed::None);
    }

    #[test]
    fn the_fuzzers_corpus_is_read() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../fuzz/corpus/hello");
        for file in std::fs::read_dir(corpus).unwrap() {
            let _ = name(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(first in prop_oneof![Just(22_u8), Just(b'G'), any::<u8>()], rest: Vec<u8>) {
            let _ = name(&[&[first][..], &rest].concat());
        }

        #[test]
        fn a_damaged_hello_is_no_trouble(at in 0..80_usize, value: u8) {
            let mut whole = record(&hello("www.example.org"));
            whole[at] = value;
            let _ = name(&whole);
        }
    }
}
