//! Every public method in every form: gRPC, gRPC-web, JSON and server-sent events are one contract, and say the same of a call.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use serde_json::Value;

use super::{
    line::Line,
    schema::{cached, names, whole},
};

/// Words of errors in JSON, and their numbers in gRPC.
const CODES: [(&str, i32); 8] = [
    ("invalid_argument", 3),
    ("not_found", 5),
    ("already_exists", 6),
    ("permission_denied", 7),
    ("failed_precondition", 9),
    ("aborted", 10),
    ("unavailable", 14),
    ("unauthenticated", 16),
];
/// For a stream that has nothing to say.
const QUIET: Duration = Duration::from_millis(1500);

/// What came of a call with an empty message.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// Of gRPC; 0 as well for a stream that stands.
    status: i32,
    messages: usize,
}

/// Frames of gRPC in a body; the flag 0x80 marks gRPC-web's trailers.
fn frames(mut octets: Bytes) -> Vec<(u8, Bytes)> {
    let mut frames = Vec::new();
    while octets.len() >= 5 {
        let flag = octets.get_u8();
        let length = usize::try_from(octets.get_u32()).unwrap();
        if octets.len() < length {
            break;
        }
        frames.push((flag, octets.split_to(length)));
    }
    frames
}

async fn call(path: &str, kind: &str) -> Said {
    let stream = tokio::net::TcpStream::connect("127.0.0.1:817").await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://127.0.0.1:817{path}"))
        .header("content-type", kind)
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut out) = client.send_request(request, false).unwrap();
    out.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let mut response = tokio::time::timeout(Duration::from_secs(20), response)
        .await
        .unwrap()
        .unwrap();
    let answered = response.headers()["content-type"].to_str().unwrap();
    assert!(answered.starts_with(kind), "{path}: {answered}");
    let number = |value: &http::HeaderValue| value.to_str().unwrap().parse().unwrap();
    let mut status: Option<i32> = response.headers().get("grpc-status").map(number);
    let mut octets = Vec::new();
    let body = response.body_mut();
    while let Ok(Some(data)) = tokio::time::timeout(QUIET, body.data()).await {
        let data = data.unwrap();
        let _ = body.flow_control().release_capacity(data.len());
        octets.extend(data);
    }
    if body.is_end_stream() {
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        status = trailers.get("grpc-status").map(number).or(status);
    }
    driver.abort();
    let mut messages = 0;
    for (flag, frame) in frames(octets.into()) {
        if flag == 0x80 {
            let text = String::from_utf8(frame.to_vec()).unwrap();
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let (_, value) = lines.find(|(name, _)| *name == "grpc-status").unwrap();
            status = value.trim().parse().ok();
        } else {
            messages += 1;
        }
    }
    Said {
        status: status.unwrap_or(0),
        messages,
    }
}

fn code(answer: &Value) -> i32 {
    let word = answer["code"].as_str().unwrap_or_default();
    let found = CODES.iter().find(|(known, _)| *known == word);
    found.unwrap_or_else(|| panic!("{answer}")).1
}

#[test]
fn every_method_says_the_same_in_every_form() {
    let world = whole("forms");
    let _names = names(&world);
    let mut line = Line::open(&world);
    let document = line.ask("GET", "/openapi.json", "", b"").unwrap().json();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (mut done, mut streams) = (0, 0);
    for (path, operations) in document["paths"].as_object().unwrap() {
        let content = &operations["post"]["responses"]["200"]["content"];
        let is_stream = content["text/event-stream"].is_object();
        // another call forgets it
        cached(&world);
        let (grpc, web) = world.host.enter(|| {
            runtime.block_on(async {
                (
                    call(path, "application/grpc").await,
                    call(path, "application/grpc-web+proto").await,
                )
            })
        });
        assert_ne!(grpc.status, 12, "{path} is not there");
        assert_eq!(grpc.status, web.status, "{path}");
        if is_stream {
            streams += 1;
            assert_eq!(grpc.status, 0, "{path}");
            assert!(grpc.messages > 0 && web.messages > 0, "{path}: {grpc:?} {web:?}");
            continue;
        }
        let json = line.call(path, "{}").unwrap();
        let status = if json.code == 200 { 0 } else { code(&json.json()) };
        assert_eq!(grpc.status, status, "{path}: {json:?}");
        let messages = usize::from(status == 0);
        assert_eq!((grpc.messages, web.messages), (messages, messages), "{path}");
        done += messages;
    }
    assert!(done > 15 && streams >= 5, "{done} done, {streams} streams");
}
