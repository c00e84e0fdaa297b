//! The same methods for whoever speaks HTTP and JSON: `POST /portmaster.api.v1.System/WhoAmI` with a JSON object, or `GET` with
//! `?message={…}` for what only looks; streams come as server-sent events.
//!
//! Messages are read and written by the contracts' own descriptors (proto3's JSON), and a call takes the way of every gRPC call,
//! gate and all: the two cannot drift apart.

mod frames;
mod texts;

use std::sync::Arc;

use api::v1::Access;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method as Verb, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use tonic::{Code, Status, body::Body};
use tower::Service as _;

use crate::{
    caller::Peer,
    gate::{Guarded, credentials},
    methods::Method,
    rpc::HEARTBEAT,
};
use frames::Frames;
pub use texts::Texts;

/// Octets of a request, as everywhere in gRPC.
const LONGEST: usize = 4 << 20;
/// By which a browser says where it was, and the fields that this is in our messages.
const LAST_EVENT_ID: &str = "last-event-id";
const RESUME_AFTER: &str = "resume_after";
const EVENT_ID: &str = "event_id";

/// Answers one call.
pub async fn answer(methods: Guarded, request: Request<Body>) -> Response<Body> {
    match call(methods, request).await {
        Ok(response) => response,
        Err(status) => error(&status),
    }
}

async fn call(mut methods: Guarded, request: Request<Body>) -> Result<Response<Body>, Status> {
    let path = request.uri().path().to_owned();
    let method = methods.gate.methods().get(&path).cloned();
    let method = method.ok_or_else(|| {
        Status::unimplemented(format!("there is no method {path}; /openapi.json has them all"))
    })?;
    let (parts, body) = request.into_parts();
    let text = match parts.method {
        Verb::GET if method.access > Access::Read => {
            return Err(Status::invalid_argument(format!(
                "{path} changes something: it takes POST alone"
            )));
        }
        Verb::GET => in_query(parts.uri.query().unwrap_or_default())?,
        Verb::POST => in_body(&parts.headers, body).await?,
        _ => return Err(Status::invalid_argument("give POST, or GET for what only looks")),
    };
    let mut message = read(&method.input, &text)?;
    resume(&mut message, &parts.headers);
    let peer = parts.extensions.get::<Arc<Peer>>().cloned();
    let inner = inner_request(&path, &message, &parts.headers, peer)?;
    // the methods cannot fail but by what they answer
    let response = methods.call(inner).await.unwrap_or_else(|never| match never {});
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let frames = Frames::new(body);
    if method.is_stream {
        Ok(events(method, frames))
    } else {
        unary(&method, frames).await
    }
}

/// `?message=…`, as in the Connect protocol; nothing is an empty message.
fn in_query(query: &str) -> Result<Bytes, Status> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, value)) = pairs.find(|(name, _)| *name == "message") else {
        return Ok(Bytes::from_static(b"{}"));
    };
    let text = unescape(value)
        .ok_or_else(|| Status::invalid_argument("message: a `%` without two digits behind"))?;
    Ok(text.into())
}

/// `%7B` is `{`, `+` a space (HTML's form encoding).
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(octet) = octets.next() {
        plain.push(match octet {
            b'+' => b' ',
            b'%' => {
                let digits = [octets.next()?, octets.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(plain)
}

async fn in_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Status> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    // anything else a page of somebody else's could send without asking (a "simple request")
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Status::invalid_argument(
            "the content-type must be application/json",
        ));
    }
    let body = Limited::new(body, LONGEST).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Status::resource_exhausted(format!("the request is longer than {LONGEST} octets"))
        } else if let Some(late) = error.downcast_ref::<Status>() {
            late.clone()
        } else {
            Status::invalid_argument("the request did not come whole")
        }
    })?;
    let text = body.to_bytes();
    Ok(if text.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        text
    })
}

fn read(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Status> {
    let mut from = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize(descriptor.clone(), &mut from);
    let message = message.and_then(|message| from.end().map(|()| message));
    message.map_err(|error| Status::invalid_argument(format!("not a {}: {error}", descriptor.name())))
}

/// A browser that lost a stream says what it saw last.
fn resume(message: &mut DynamicMessage, headers: &HeaderMap) {
    let last = headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    if let Some(last) = last
        && let Some(field) = message.descriptor().get_field_by_name(RESUME_AFTER)
    {
        message.set_field(&field, Value::String(last.to_owned()));
    }
}

/// The call as gRPC has it.
fn inner_request(
    path: &str,
    message: &DynamicMessage,
    headers: &HeaderMap,
    peer: Option<Arc<Peer>>,
) -> Result<Request<Body>, Status> {
    let octets = message.encode_to_vec();
    let length =
        u32::try_from(octets.len()).map_err(|_| Status::resource_exhausted("the request is too long"))?;
    let mut frame = BytesMut::with_capacity(octets.len() + 5);
    frame.put_u8(0);
    frame.put_u32(length);
    frame.put_slice(&octets);
    let mut request = Request::post(path)
        .version(http::Version::HTTP_2)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Body::new(Full::new(frame.freeze())))
        .map_err(|_| Status::invalid_argument("the path is none"))?;
    request.headers_mut().extend(credentials(headers));
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    Ok(request)
}

async fn unary(method: &Method, mut frames: Frames) -> Result<Response<Body>, Status> {
    let octets = frames.next().await.transpose()?;
    let octets = octets.ok_or_else(|| Status::internal("the answer is empty"))?;
    // an error may come behind the message
    frames.next().await.transpose()?;
    let text = write(&method.output, &octets)?;
    Ok(json(StatusCode::OK, text.into()))
}

fn write(descriptor: &MessageDescriptor, octets: &[u8]) -> Result<String, Status> {
    let message = decode(descriptor, octets)?;
    serde_json::to_string(&message).map_err(|error| internal(&error))
}

fn decode(descriptor: &MessageDescriptor, octets: &[u8]) -> Result<DynamicMessage, Status> {
    DynamicMessage::decode(descriptor.clone(), octets).map_err(|error| internal(&error))
}

fn internal(error: &impl ToString) -> Status {
    Status::internal(error.to_string())
}

fn json(code: StatusCode, text: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(text)));
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// As the Connect protocol says errors: `{"code": "permission_denied", "message": "…"}`.
pub fn error(status: &Status) -> Response<Body> {
    let (code, word) = meaning(status.code());
    let text = serde_json::json!({ "code": word, "message": status.message() }).to_string();
    json(code, text.into())
}

/// Source: the Connect protocol's table of error codes.
const fn meaning(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "ok"),
        Code::Cancelled => (StatusCode::REQUEST_TIMEOUT, "canceled"),
        Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "unknown"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "failed_precondition"),
        Code::Aborted => (StatusCode::CONFLICT, "aborted"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unimplemented => (StatusCode::NOT_FOUND, "unimplemented"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "data_loss"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
    }
}

/// One event for each message; its `id` is the message's `event_id`. An error is the last event, called `error`.
fn events(method: Method, frames: Frames) -> Response<Body> {
    let messages = stream::unfold(Some((method, frames)), async |at| {
        let (method, mut frames) = at?;
        let next = match tokio::time::timeout(HEARTBEAT, frames.next()).await {
            Err(_) => {
                return Some((
                    event_frame(": nothing new\n\n".to_owned()),
                    Some((method, frames)),
                ));
            }
            Ok(next) => next?,
        };
        let said = next.and_then(|octets| method.texts.event(&method.output, &octets));
        Some(match said {
            Ok(text) => (event_frame(text), Some((method, frames))),
            Err(status) => {
                let (_, word) = meaning(status.code());
                let text = serde_json::json!({ "code": word, "message": status.message() });
                (event_frame(format!("event: error\ndata: {text}\n\n")), None)
            }
        })
    });
    let mut response = Response::new(Body::new(StreamBody::new(messages)));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

type Events = Result<Frame<Bytes>, std::convert::Infallible>;

fn event_frame(text: impl Into<Bytes>) -> Events {
    Ok(Frame::data(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Methods;
    use proptest::prelude::*;

    #[test]
    fn a_query_is_read_as_a_form_writes_it() {
        assert_eq!(in_query("").unwrap(), "{}");
        assert_eq!(
            in_query("a=b&message=%7B%22id%22%3A+7%7D").unwrap(),
            "{\"id\": 7}"
        );
        assert!(in_query("message=%7").is_err());
    }

    #[test]
    fn what_is_no_message_says_where() {
        let methods = Methods::new().unwrap();
        let input = &methods.get("/portmaster.api.v1.Connections/Get").unwrap().input;
        assert!(read(input, b"{\"id\": \"7\"}").is_ok());
        for (text, part) in [
            ("{\"nonsense\": 1}", "nonsense"),
            ("{\"id\": -1}", "line 1"),
            ("{} x", "trailing"),
        ] {
            let said = read(input, text.as_bytes()).unwrap_err();
            assert!(said.message().contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn an_event_has_its_place() {
        let methods = Methods::new().unwrap();
        let watch = methods.get("/portmaster.api.v1.Connections/Watch").unwrap();
        let message = api::v1::WatchConnectionsReply {
            dropped: 3,
            event_id: "9-1".into(),
            ..Default::default()
        };
        let octets = message.encode_to_vec().into();
        let text = watch.texts.event(&watch.output, &octets).unwrap();
        assert_eq!(text, "id: 9-1\ndata: {\"dropped\":\"3\",\"eventId\":\"9-1\"}\n\n");
    }

    proptest! {
        #[test]
        fn reading_is_total(text in ".{0,200}") {
            let _ = in_query(&format!("message={text}"));
            let methods = Methods::new().unwrap();
            let _ = read(&methods.get("/portmaster.api.v1.Connections/List").unwrap().input, text.as_bytes());
        }
    }
}
