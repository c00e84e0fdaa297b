//! Heads of HTTP/1 requests, read as the commonest web server reads them: what it refuses is refused in its words, or a
//! prober would know the difference. No IO.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// A request's head.
#[derive(Clone, Debug)]
pub struct Asked {
    /// A token.
    pub method: Method,
    /// As it stands in the request line.
    pub target: String,
    /// The version.
    pub version: Version,
    /// Without those that cannot be told on.
    pub headers: HeaderMap,
}

/// HTTP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 0.9: a request line, and no head in the answer.
    Bare,
    /// 1.0
    Zero,
    /// 1.1
    One,
}

/// Why a head is refused. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is none.
    Malformed,
    /// A line, or all of them, are too long.
    TooLarge,
    /// The first line is too long.
    LongTarget,
    /// A version that is not spoken.
    Version,
    /// A body in a form that is not known.
    Coding,
    /// A body that is too long.
    Body,
}

/// What there is so far.
#[derive(Clone, Debug)]
pub enum Read {
    /// A beginning.
    More,
    /// All of it, and how many octets it took.
    Whole(Box<Asked>, usize),
    /// It will not become one.
    Fault(Fault),
}

/// How a body is told from the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// By its length.
    Length(u64),
    /// By itself.
    Chunked,
}

/// Octets of a line, and of all lines.
const LINE: usize = 8 << 10;
const ALL: usize = 32 << 10;
/// Of a body that nobody asked for.
pub const LARGEST_BODY: u64 = 1 << 20;

/// Reads a head from its first octets on.
pub fn read(octets: &[u8]) -> Read {
    let skipped = octets
        .iter()
        .take_while(|octet| matches!(octet, b'\r' | b'\n'))
        .count();
    let mut rest = octets.get(skipped..).unwrap_or_default();
    let first = match line(rest) {
        Ok(first) => first,
        Err(LINE..) => return Read::Fault(Fault::LongTarget),
        Err(_) if has_method_begun_badly(rest) => return Read::Fault(Fault::Malformed),
        Err(_) => return Read::More,
    };
    // a space before it is passed over further down: in one piece it must be refused as well
    if has_method_begun_badly(first) {
        return Read::Fault(Fault::Malformed);
    }
    rest = rest.get(first.len() + 1..).unwrap_or_default();
    let (method, target, version) = match request_line(chomp(first)) {
        Ok(read) => read,
        Err(fault) => return Read::Fault(fault),
    };
    let mut headers = HeaderMap::new();
    if version != Version::Bare {
        match header_lines(octets, &mut rest, &mut headers) {
            Ok(true) => {}
            Ok(false) => return Read::More,
            Err(fault) => return Read::Fault(fault),
        }
    }
    let asked = Asked {
        method,
        target,
        version,
        headers,
    };
    Read::Whole(Box::new(asked), octets.len() - rest.len())
}

/// Reads `rest`, which ends `octets`, to behind the empty line; false where that is not there yet.
fn header_lines(octets: &[u8], rest: &mut &[u8], headers: &mut HeaderMap) -> Result<bool, Fault> {
    loop {
        let next = match line(rest) {
            Ok(next) => next,
            Err(LINE..) => return Err(Fault::TooLarge),
            Err(_) => return Ok(false),
        };
        *rest = rest.get(next.len() + 1..).unwrap_or_default();
        if octets.len() - rest.len() > ALL {
            return Err(Fault::TooLarge);
        }
        let next = chomp(next);
        if next.is_empty() {
            return Ok(true);
        }
        header_line(next, headers)?;
    }
}

/// Without its LF; else how much of it is there.
fn line(octets: &[u8]) -> Result<&[u8], usize> {
    match octets.iter().position(|octet| *octet == b'\n') {
        Some(end @ ..LINE) => Ok(octets.get(..end).unwrap_or_default()),
        Some(end) => Err(end),
        None => Err(octets.len()),
    }
}

fn chomp(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

const fn is_of_method(octet: u8) -> bool {
    octet.is_ascii_uppercase() || matches!(octet, b'_' | b'-')
}

fn has_method_begun_badly(octets: &[u8]) -> bool {
    let stop = octets.iter().position(|octet| !is_of_method(*octet));
    stop.is_some_and(|place| place == 0 || octets.get(place) != Some(&b' '))
}

fn request_line(line: &[u8]) -> Result<(Method, String, Version), Fault> {
    let text = std::str::from_utf8(line).map_err(|_| Fault::Malformed)?;
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method.is_empty() || !method.bytes().all(is_of_method) || target.is_empty() {
        return Err(Fault::Malformed);
    }
    // "*" and authorities are for two methods alone
    let is_place = |octet: &u8| octet.is_ascii_alphabetic() || *octet == b'/';
    if !matches!(method, "OPTIONS" | "CONNECT") && !target.as_bytes().first().is_some_and(is_place) {
        return Err(Fault::Malformed);
    }
    let version = match words.next() {
        None if method == "GET" && target.starts_with('/') => Version::Bare,
        Some(version) if words.next().is_none() => version_of(version)?,
        _ => return Err(Fault::Malformed),
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Malformed)?;
    Ok((method, target.to_owned(), version))
}

fn version_of(word: &str) -> Result<Version, Fault> {
    let numbers = word.strip_prefix("HTTP/").and_then(|rest| rest.split_once('.'));
    let (major, minor) = numbers.ok_or(Fault::Malformed)?;
    let number = |digits: &str| {
        let plain = (1..=2).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
        plain.then(|| digits.parse::<u8>().ok()).flatten()
    };
    match (number(major), number(minor)) {
        (Some(1), Some(0)) => Ok(Version::Zero),
        (Some(1), Some(_)) => Ok(Version::One),
        (Some(2..), Some(_)) => Err(Fault::Version),
        _ => Err(Fault::Malformed),
    }
}

fn header_line(line: &[u8], headers: &mut HeaderMap) -> Result<(), Fault> {
    let end = line.iter().position(|octet| *octet == b':').unwrap_or(line.len());
    let (name, value) = line.split_at(end);
    if name.is_empty() || name.iter().any(|octet| *octet <= b' ' || *octet == 0x7f) || value.contains(&0) {
        return Err(Fault::Malformed);
    }
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    if !name
        .iter()
        .all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-')
    {
        // passed over
        return Ok(());
    }
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
    Ok(())
}

impl Asked {
    /// What is wrong with it as a request for a page: the checks that come once all of it is there.
    pub fn fault(&self) -> Option<Fault> {
        let hosts = self.headers.get_all(header::HOST).iter().count();
        let has_place = self.target.starts_with('/') || self.target.starts_with("http://");
        let malformed = self.method == Method::CONNECT
            || !(has_place || self.target.starts_with("https://"))
            || hosts > 1
            || (hosts == 0 && self.version == Version::One);
        if malformed {
            return Some(Fault::Malformed);
        }
        match self.body() {
            Err(fault) => Some(fault),
            Ok(Body::Length(length)) if length > LARGEST_BODY => Some(Fault::Body),
            Ok(_) => None,
        }
    }

    /// What comes behind it.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn body(&self) -> Result<Body, Fault> {
        let mut lengths = self.headers.get_all(header::CONTENT_LENGTH).iter();
        let length = lengths.next();
        if lengths.next().is_some() {
            return Err(Fault::Malformed);
        }
        match (self.headers.get(header::TRANSFER_ENCODING), length) {
            (None, None) => Ok(Body::Length(0)),
            (None, Some(length)) => {
                let digits = length.to_str().unwrap_or_default();
                let plain = digits.bytes().all(|octet| octet.is_ascii_digit());
                let read = digits.parse().ok().filter(|_| plain);
                read.map(Body::Length).ok_or(Fault::Malformed)
            }
            (Some(_), Some(_)) => Err(Fault::Malformed),
            (Some(_), None) if self.version != Version::One => Err(Fault::Malformed),
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            (Some(_), None) => Err(Fault::Coding),
        }
    }

    /// Whether the connection is to stay.
    pub fn stays(&self) -> bool {
        match self.version {
            Version::Bare => false,
            Version::Zero => self.says(header::CONNECTION, "keep-alive"),
            Version::One => !self.says(header::CONNECTION, "close"),
        }
    }

    /// Who is asked, without the port.
    pub fn host(&self) -> &str {
        let host = self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or("localhost");
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
            _ => host,
        }
    }

    /// Whether a list of words in a header has this one.
    pub fn says(&self, name: HeaderName, wanted: &str) -> bool {
        let values = self.headers.get_all(name).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    }
}

#[cfg(test)]
mod tests;
