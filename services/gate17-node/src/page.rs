//! What everybody sees who has no leave for anything else: a small web server as there are many.

use std::{collections::HashMap, fs, io, path::Path};

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use jiff::Timestamp;

/// Pages by their path.
#[derive(Clone, Debug)]
pub struct Pages(HashMap<String, Page>);

#[derive(Clone, Debug)]
struct Page {
    content: Bytes,
    kind: &'static str,
}

const SERVER: &str = "nginx";
const WELCOME: &str = "<!DOCTYPE html>\n<html>\n<head>\n<title>Welcome</title>\n</head>\n<body>\n<h1>It works</h1>\n\
<p>There is nothing here yet.</p>\n</body>\n</html>\n";
/// Octets of one file, and of all; more is left out.
const LARGEST: u64 = 1 << 20;
const IN_ALL: usize = 16 << 20;
const DEPTH: usize = 8;

impl Pages {
    /// Everything below a folder, into memory: no request ever names a file. One short page where there is none.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn load(folder: Option<&Path>) -> io::Result<Self> {
        let mut pages = Self(HashMap::new());
        if let Some(folder) = folder {
            pages.add(folder, "/", 0)?;
        }
        if !pages.0.contains_key("/") {
            let content = Bytes::from_static(WELCOME.as_bytes());
            pages.0.insert("/".to_owned(), Page { content, kind: HTML });
        }
        Ok(pages)
    }

    fn add(&mut self, folder: &Path, below: &str, depth: usize) -> io::Result<()> {
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
            let held: usize = self.0.values().map(|page| page.content.len()).sum();
            if !metadata.is_file() || metadata.len() > LARGEST || held > IN_ALL {
                continue;
            }
            let page = Page {
                content: fs::read(&path)?.into(),
                kind: kind_of(&name),
            };
            if name == "index.html" {
                self.0.insert(below.to_owned(), page.clone());
            }
            self.0.insert(format!("{below}{name}"), page);
        }
        Ok(())
    }

    /// The answer to a request.
    pub fn answer(&self, method: &Method, path: &str) -> Response<Bytes> {
        match (self.0.get(path), method) {
            (Some(page), &Method::GET) => respond(StatusCode::OK, page.kind, page.content.clone()),
            (Some(page), &Method::HEAD) => {
                let mut response = respond(StatusCode::OK, page.kind, Bytes::new());
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, page.content.len().into());
                response
            }
            (None, &Method::GET) => error(StatusCode::NOT_FOUND),
            (None, &Method::HEAD) => {
                let mut response = error(StatusCode::NOT_FOUND);
                std::mem::take(response.body_mut());
                response
            }
            _ => error(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

const HTML: &str = "text/html";

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

/// A page that says what is wrong, as common servers word it.
pub fn error(status: StatusCode) -> Response<Bytes> {
    let said = format!(
        "{} {}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    );
    let page = format!(
        "<html>\r\n<head><title>{said}</title></head>\r\n<body>\r\n<center><h1>{said}</h1></center>\r\n\
         <hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
    );
    respond(status, HTML, page.into())
}

/// With the headers that all answers have.
pub fn respond(status: StatusCode, kind: &'static str, content: Bytes) -> Response<Bytes> {
    let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let length = content.len();
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, header::HeaderValue::from_static(SERVER));
    if let Ok(date) = date.try_into() {
        headers.insert(header::DATE, date);
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_web_site() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("index.html"), "home").unwrap();
        fs::write(folder.path().join("a/b.css"), "css").unwrap();
        fs::write(folder.path().join(".secret"), "no").unwrap();
        let pages = Pages::load(Some(folder.path())).unwrap();
        let get = |path: &str| pages.answer(&Method::GET, path);
        assert_eq!(get("/").body(), "home");
        assert_eq!(get("/index.html").body(), "home");
        assert_eq!(get("/a/b.css").headers()[header::CONTENT_TYPE], "text/css");
        for path in ["/.secret", "/../x", "/a", ""] {
            assert_eq!(get(path).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn methods_are_answered_as_by_others() {
        let pages = Pages::load(None).unwrap();
        let head = pages.answer(&Method::HEAD, "/");
        assert!(head.body().is_empty());
        assert_ne!(head.headers()[header::CONTENT_LENGTH], "0");
        for method in [Method::POST, Method::CONNECT, Method::DELETE] {
            assert_eq!(
                pages.answer(&method, "/").status(),
                StatusCode::METHOD_NOT_ALLOWED
            );
        }
    }
}
