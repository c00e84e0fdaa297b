//! The words in which a web server says what is wrong.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use jiff::Timestamp;

use super::HTML;
use crate::http1::Fault;

const SERVER: &str = "nginx";
/// Of these browsers it is believed that they show pages of their own in place of short ones.
const PADDING: &str = "<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";

/// As nginx words it.
pub fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        405 => "Not Allowed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        416 => "Requested Range Not Satisfiable",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        _ => status.canonical_reason().unwrap_or_default(),
    }
}

/// A page that says what is wrong.
pub fn error(status: StatusCode) -> Response<Bytes> {
    let said = format!("{} {}", status.as_str(), reason(status));
    worded(status, &said, None)
}

/// A request that cannot be read.
pub fn fault(fault: Fault) -> Response<Bytes> {
    match fault {
        Fault::Malformed => error(StatusCode::BAD_REQUEST),
        Fault::TooLarge => special("Request Header Or Cookie Too Large"),
        Fault::LongTarget => error(StatusCode::URI_TOO_LONG),
        Fault::Version => error(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
        Fault::Coding => error(StatusCode::NOT_IMPLEMENTED),
        Fault::Body => error(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

/// HTTP where TLS is spoken.
pub fn mistaken() -> Response<Bytes> {
    special("The plain HTTP request was sent to HTTPS port")
}

fn special(why: &str) -> Response<Bytes> {
    let status = StatusCode::BAD_REQUEST;
    worded(status, &format!("{} {why}", status.as_str()), Some(why))
}

fn worded(status: StatusCode, title: &str, why: Option<&str>) -> Response<Bytes> {
    let heading = format!("{} {}", status.as_str(), reason(status));
    let why = why.map_or_else(String::new, |why| format!("<center>{why}</center>\r\n"));
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{heading}</h1></center>\r\n{why}\
         <hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
    );
    respond(status, HTML, page.into())
}

/// What is wrong is said at some length to some browsers.
pub(super) fn pad(response: &mut Response<Bytes>, asked: &HeaderMap) {
    let browser = asked
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let is_padded = browser.contains("Chrome/") || (browser.contains("MSIE ") && !browser.contains("Opera"));
    if !is_padded || !(response.status().is_client_error() || response.status().is_server_error()) {
        return;
    }
    let mut page = BytesMut::from(&response.body()[..]);
    for _ in 0..6 {
        page.extend_from_slice(PADDING.as_bytes());
    }
    let length = page.len();
    *response.body_mut() = page.freeze();
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
}

/// With the headers that all answers with a body have.
pub fn respond(status: StatusCode, kind: &'static str, content: Bytes) -> Response<Bytes> {
    let length = content.len();
    let mut response = bare(status);
    *response.body_mut() = content;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, length.into());
    response
}

/// With the headers that all answers have.
pub(super) fn bare(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    if let Ok(date) = date(Timestamp::now()).try_into() {
        headers.insert(header::DATE, date);
    }
    response
}

/// As HTTP writes it.
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
