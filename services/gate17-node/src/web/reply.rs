//! Heads of answers, in the order and the letters of the web server that this is taken for.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Response, StatusCode, header};

use crate::page;

/// These stand before `Connection`, all others behind it.
const FIRST: [HeaderName; 6] = [
    header::SERVER,
    header::DATE,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::LAST_MODIFIED,
    header::LOCATION,
];

/// Status line and headers.
pub(super) fn head(response: &Response<Bytes>, stays: bool) -> BytesMut {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_str(), page::reason(status));
    let (first, last): (Vec<_>, Vec<_>) = response
        .headers()
        .iter()
        .partition(|(name, _)| FIRST.contains(name));
    for (name, value) in first {
        add(&mut text, name, value.to_str().unwrap_or_default());
    }
    add(
        &mut text,
        &header::CONNECTION,
        if stays { "keep-alive" } else { "close" },
    );
    for (name, value) in last {
        add(&mut text, name, value.to_str().unwrap_or_default());
    }
    text.push_str("\r\n");
    BytesMut::from(text.as_str())
}

fn add(text: &mut String, name: &HeaderName, value: &str) {
    let _ = match name.as_str() {
        "etag" => write!(text, "ETag: {value}\r\n"),
        name => {
            for word in name.split_inclusive('-') {
                let mut letters = word.chars();
                text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
                text.push_str(letters.as_str());
            }
            write!(text, ": {value}\r\n")
        }
    };
}

/// After some answers, what else comes is not to be believed.
pub(super) fn ends_a_connection(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 413 | 414 | 500 | 501 | 505)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_written_as_others_write_it() {
        let mut response = page::respond(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/html",
            Bytes::from_static(b"x"),
        );
        response
            .headers_mut()
            .insert(header::ETAG, "\"1\"".parse().unwrap());
        response
            .headers_mut()
            .insert("proxy-status", "gate17".parse().unwrap());
        response.headers_mut().remove(header::DATE);
        let text = head(&response, true);
        let mut lines: Vec<_> = std::str::from_utf8(&text).unwrap().split("\r\n").collect();
        lines[1..7].sort_unstable();
        assert_eq!(
            lines,
            [
                "HTTP/1.1 405 Not Allowed",
                "Connection: keep-alive",
                "Content-Length: 1",
                "Content-Type: text/html",
                "ETag: \"1\"",
                "Proxy-Status: gate17",
                "Server: nginx",
                "",
                "",
            ]
        );
    }
}
