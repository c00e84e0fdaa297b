//! What everybody sees who has no leave for anything else: a small web server, as there are many. It answers as nginx
//! does, to the octet where that is cheap to compare; `integration/tests/gate17_hostile` asks both the same.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use jiff::Timestamp;

mod path;
mod say;

pub use say::{error, fault, mistaken, reason, respond};

/// Pages by their path.
#[derive(Clone, Debug)]
pub struct Pages {
    files: HashMap<String, Page>,
    folders: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Page {
    content: Bytes,
    kind: &'static str,
    changed: Timestamp,
}

/// A request for a page, by whatever version of HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// GET, most likely.
    pub method: &'a Method,
    /// Path and query, or all of an address.
    pub target: &'a str,
    /// The host that was asked, if it was named.
    pub host: Option<&'a str>,
    /// Over TLS.
    pub secure: bool,
    /// All others.
    pub headers: &'a HeaderMap,
}

/// What nginx shows on the day that it is set up (it is under the two-clause BSD licence): nothing on the web is commoner.
const WELCOME: &[u8] = include_bytes!("page/welcome.html");
/// Octets of one file, and of all; more is left out.
const LARGEST: u64 = 1 << 20;
const IN_ALL: usize = 16 << 20;
const DEPTH: usize = 8;
const HTML: &str = "text/html";

impl Pages {
    /// Everything below a folder, into memory: no request ever names a file. One page of `since` where there is none.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn load(folder: Option<&Path>, since: SystemTime) -> io::Result<Self> {
        let mut pages = Self {
            files: HashMap::new(),
            folders: HashSet::new(),
        };
        if let Some(folder) = folder {
            pages.add(folder, "/", 0)?;
        } else {
            let page = Page {
                content: Bytes::from_static(WELCOME),
                kind: HTML,
                changed: whole_seconds(since),
            };
            pages.files.insert("/".to_owned(), page.clone());
            pages.files.insert("/index.html".to_owned(), page);
        }
        Ok(pages)
    }

    fn add(&mut self, folder: &Path, below: &str, depth: usize) -> io::Result<()> {
        self.folders.insert(below.to_owned());
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (Ok(name), path) = (entry.file_name().into_string(), entry.path()) else {
                continue;
            };
            let metadata = fs::metadata(&path)?;
            if name.starts_with('.') {
                continue;
            }
            if metadata.is_dir() && depth < DEPTH {
                self.add(&path, &format!("{below}{name}/"), depth + 1)?;
            }
            let held: usize = self.files.values().map(|page| page.content.len()).sum();
            if !metadata.is_file() || metadata.len() > LARGEST || held > IN_ALL {
                continue;
            }
            let page = Page {
                content: fs::read(&path)?.into(),
                kind: kind_of(&name),
                changed: whole_seconds(metadata.modified()?),
            };
            if name == "index.html" {
                self.files.insert(below.to_owned(), page.clone());
            }
            self.files.insert(format!("{below}{name}"), page);
        }
        Ok(())
    }

    /// The answer to a request.
    pub fn answer(&self, visit: &Visit<'_>) -> Response<Bytes> {
        let mut response = self.whole(visit);
        say::pad(&mut response, visit.headers);
        if visit.method == Method::HEAD {
            std::mem::take(response.body_mut());
        }
        response
    }

    fn whole(&self, visit: &Visit<'_>) -> Response<Bytes> {
        let Some(path) = path::of(visit.target).filter(|_| visit.host.is_some()) else {
            return error(StatusCode::BAD_REQUEST);
        };
        if ![Method::GET, Method::HEAD, Method::POST].contains(visit.method) {
            return error(if visit.method == Method::CONNECT {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::METHOD_NOT_ALLOWED
            });
        }
        match self.files.get(&path) {
            Some(_) if visit.method == Method::POST => error(StatusCode::METHOD_NOT_ALLOWED),
            Some(page) => page.show(visit.headers),
            None if self.folders.contains(&path) => error(StatusCode::FORBIDDEN),
            None if self.folders.contains(&format!("{path}/")) => moved(visit, &path),
            None => error(StatusCode::NOT_FOUND),
        }
    }
}

/// A folder is asked for without its slash.
fn moved(visit: &Visit<'_>, path: &str) -> Response<Bytes> {
    let mut response = error(StatusCode::MOVED_PERMANENTLY);
    let scheme = if visit.secure { "https" } else { "http" };
    let place = format!("{scheme}://{}{path}/", visit.host.unwrap_or_default());
    if let Ok(place) = place.try_into() {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

impl Page {
    fn show(&self, asked: &HeaderMap) -> Response<Bytes> {
        let changed = say::date(self.changed);
        let tag = format!("\"{:x}-{:x}\"", self.changed.as_second(), self.content.len());
        let is = |name, value: &str| asked.get(name).is_some_and(|asked| asked == value);
        let known = match asked.get(header::IF_NONE_MATCH) {
            Some(_) => is(header::IF_NONE_MATCH, &tag),
            None => is(header::IF_MODIFIED_SINCE, &changed),
        };
        let total = self.content.len();
        let mut response = match asked.get(header::RANGE).map(|range| path::range(range, total)) {
            _ if known => say::bare(StatusCode::NOT_MODIFIED),
            Some(path::Range::Part(from, to)) => {
                let part = self.content.slice(from..to);
                respond(StatusCode::PARTIAL_CONTENT, self.kind, part)
            }
            Some(path::Range::Beyond) => {
                let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE);
                let said = format!("bytes */{total}");
                set(response.headers_mut(), header::CONTENT_RANGE, said);
                return response;
            }
            Some(path::Range::All) | None => respond(StatusCode::OK, self.kind, self.content.clone()),
        };
        let status = response.status();
        let headers = response.headers_mut();
        set(headers, header::LAST_MODIFIED, changed);
        set(headers, header::ETAG, tag);
        match (
            status,
            asked.get(header::RANGE).map(|range| path::range(range, total)),
        ) {
            (StatusCode::PARTIAL_CONTENT, Some(path::Range::Part(from, to))) => {
                let said = format!("bytes {from}-{}/{total}", to - 1);
                set(headers, header::CONTENT_RANGE, said);
            }
            (StatusCode::OK, _) => set(headers, header::ACCEPT_RANGES, "bytes".to_owned()),
            _ => {}
        }
        response
    }
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    if let Ok(value) = value.try_into() {
        headers.insert(name, value);
    }
}

fn whole_seconds(time: SystemTime) -> Timestamp {
    let second = Timestamp::try_from(time).map_or(0, Timestamp::as_second);
    Timestamp::from_second(second).unwrap_or_default()
}

fn kind_of(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html" | "htm") => HTML,
        Some("css") => "text/css",
        Some("js") => "application/javascript",
        Some("txt") => "text/plain",
        Some("json") => "application/json",
        Some("xml") => "text/xml",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
