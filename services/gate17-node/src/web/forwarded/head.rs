//! Heads on their way: of the request, and of the answer. No IO but reading.

use std::io;

use bytes::BytesMut;
use gate17_proto::{padding, target::Target};
use http::{HeaderName, Method, header};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

use crate::http1::{Asked, Body, Version};

const SCHEME: &str = "http://";
/// Of an answer's head.
const LONGEST: u64 = 64 << 10;
/// Interim answers before the one that counts.
const INTERIM: usize = 16;
/// Of one connection, or for this node alone (RFC 9110, section 7.6.1).
const NOT_PASSED: [&str; 10] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The same of answers, of which the body goes on as it comes.
const NOT_ANSWERED: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "upgrade",
];

/// Whether a request's target is a whole address of the web in the clear.
pub(super) fn is_whole(target: &str) -> bool {
    let scheme = target.get(..SCHEME.len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
}

/// What a whole address names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Whom.
    pub(super) target: Target,
    /// As it stands in the address.
    authority: String,
    /// What is asked there.
    place: String,
}

impl Wanted {
    /// None where it names nobody.
    pub(super) fn of(asked: &Asked) -> Option<Self> {
        let rest = asked.target.get(SCHEME.len()..)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, place) = rest.split_at_checked(end)?;
        let behind = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
        let target = if behind.contains(':') {
            authority.parse()
        } else {
            format!("{authority}:80").parse()
        };
        let place = match place {
            "" if asked.method == Method::OPTIONS => "*".to_owned(),
            place if place.starts_with('/') => place.to_owned(),
            place => format!("/{place}"),
        };
        Some(Self {
            target: target.ok()?,
            authority: authority.to_owned(),
            place,
        })
    }

    /// The request as the server is to see it.
    pub(super) fn head(&self, asked: &Asked, body: Body) -> BytesMut {
        let version = match asked.version {
            Version::One => "1.1",
            Version::Zero | Version::Bare => "1.0",
        };
        let mut text = format!(
            "{} {} HTTP/{version}\r\nHost: {}\r\n",
            asked.method, self.place, self.authority
        );
        let mut octets = BytesMut::new();
        for (name, value) in &asked.headers {
            if is_passed(asked, name) {
                octets.extend_from_slice(name.as_str().as_bytes());
                octets.extend_from_slice(b": ");
                octets.extend_from_slice(value.as_bytes());
                octets.extend_from_slice(b"\r\n");
            }
        }
        if body == Body::Chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        }
        let mut head = BytesMut::from(text.as_str());
        head.unsplit(octets);
        head.extend_from_slice(b"Connection: close\r\n\r\n");
        head
    }
}

fn is_passed(asked: &Asked, name: &HeaderName) -> bool {
    !NOT_PASSED.contains(&name.as_str())
        && !name.as_str().eq_ignore_ascii_case(padding::HEADER)
        && !asked.says(header::CONNECTION, name.as_str())
}

/// The head of an answer as the client is to see it, with interim ones before it.
///
/// # Errors
/// Where it is none.
pub(super) async fn answer(server: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    for _ in 0..=INTERIM {
        let (head, is_interim) = one(server).await?;
        said.extend_from_slice(&head);
        if !is_interim {
            return Ok(said);
        }
    }
    Err(malformed())
}

/// A head, and whether another comes behind it.
async fn one(server: &mut (impl AsyncBufRead + Unpin)) -> io::Result<(Vec<u8>, bool)> {
    let mut lines = server.take(LONGEST);
    let (mut head, mut line, mut is_left_out) = (Vec::new(), Vec::new(), false);
    lines.read_until(b'\n', &mut line).await?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(1..5));
    let code = status.and_then(|status| status.strip_prefix(b" "));
    let code = code.filter(|code| code.iter().all(u8::is_ascii_digit));
    let is_interim = match code.ok_or_else(malformed)? {
        b"101" => return Err(malformed()),
        code => code.first() == Some(&b'1'),
    };
    while !matches!(line.as_slice(), b"\r\n" | b"\n") {
        if line.last() != Some(&b'\n') {
            return Err(malformed());
        }
        let goes_on = matches!(line.first(), Some(b' ' | b'\t'));
        is_left_out = if goes_on {
            is_left_out
        } else {
            is_not_answered(&line)
        };
        if !is_left_out {
            head.extend_from_slice(&line);
        }
        line.clear();
        lines.read_until(b'\n', &mut line).await?;
    }
    if !is_interim {
        head.extend_from_slice(b"Connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok((head, is_interim))
}

fn is_not_answered(line: &[u8]) -> bool {
    let name = line.split(|octet| *octet == b':').next().unwrap_or_default();
    NOT_ANSWERED
        .iter()
        .any(|other| name.trim_ascii().eq_ignore_ascii_case(other.as_bytes()))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no head of an answer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1;

    fn asked(text: &str) -> Asked {
        match http1::read(text.as_bytes()) {
            http1::Read::Whole(asked, _) => *asked,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn wanted(target: &str) -> Option<(String, String)> {
        let wanted = Wanted::of(&asked(&format!("GET {target} HTTP/1.1\r\n\r\n")))?;
        Some((wanted.target.to_string(), wanted.place))
    }

    #[test]
    fn a_whole_address_names_a_server_and_a_place_there() {
        for (target, to, place) in [
            ("http://example.org/a?b", "example.org:80", "/a?b"),
            ("HTTP://Example.org:8080", "example.org:8080", "/"),
            ("http://[2001:db8::1]/", "[2001:db8::1]:80", "/"),
            ("http://[2001:db8::1]:81?q=/", "[2001:db8::1]:81", "/?q=/"),
        ] {
            assert_eq!(
                wanted(target),
                Some((to.to_owned(), place.to_owned())),
                "{target}"
            );
        }
        for target in [
            "http:///a",
            "http://user:secret@example.org/",
            "http://example.org:/",
            "http://example.org:0/",
            "http://127.1/",
            "http://[::1/",
        ] {
            assert_eq!(wanted(target), None, "{target}");
        }
        assert!(!is_whole("/http://x") && !is_whole("https://x/") && !is_whole("http:/"));
    }

    #[test]
    fn what_is_for_this_node_or_this_connection_goes_no_further() {
        let text = "POST http://example.org:8080/a HTTP/1.1\r\nHost: other\r\nProxy-Authorization: Bearer x\r\n\
                    Proxy-Connection: keep-alive\r\nConnection: X-Own, close\r\nX-Own: 1\r\nAuthorization: Basic eA==\r\n\
                    gate17-padding: 1024\r\nTE: trailers\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nAccept: */*\r\n\r\n";
        let asked = asked(text);
        let head = Wanted::of(&asked).unwrap().head(&asked, asked.body().unwrap());
        let text = std::str::from_utf8(&head).unwrap();
        let mut lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(
            lines[..3],
            [
                "POST /a HTTP/1.1",
                "Host: example.org:8080",
                "Transfer-Encoding: chunked"
            ]
        );
        lines.drain(..3);
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "",
                "",
                "Connection: close",
                "accept: */*",
                "authorization: Basic eA=="
            ]
        );
    }

    #[tokio::test]
    async fn an_answer_says_that_the_connection_ends_with_it() {
        let said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nKeep-Alive: 5\r\n more\r\nconnection: keep-alive\r\n\
                     Transfer-Encoding: chunked\r\nX: y\r\n z\r\n\r\nbody";
        let mut from = said.as_slice();
        let head = answer(&mut from).await.unwrap();
        assert_eq!(
            std::str::from_utf8(&head).unwrap(),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n z\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(from, b"body");
        for mut none in [
            b"".as_slice(),
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
        ] {
            assert!(answer(&mut none).await.is_err(), "{none:?}");
        }
        let for_ever = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a".repeat(1 << 20)].concat();
        assert!(answer(&mut for_ever.as_slice()).await.is_err());
        let interim = b"HTTP/1.1 102 Wait\r\n\r\n".repeat(100);
        assert!(answer(&mut interim.as_slice()).await.is_err());
    }
}
