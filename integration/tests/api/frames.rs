//! What is no HTTP/2 (RFC 9113) or no gRPC, octet by octet, and what is, by the ten thousand: it ends its own connection, costs
//! bounded memory, and nobody else anything.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use integration::{Service, World};

use super::line::Line;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PROMISE: u8 = 5;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// More than all of it may cost, in KiB: debug builds of everything that is asked here fit well.
const MEMORY: u64 = 128 << 10;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut octets = length[1..].to_vec();
    octets.extend([kind, flags]);
    octets.extend(stream.to_be_bytes());
    octets.extend(payload);
    octets
}

/// Of a call without a message (RFC 7541, nothing compressed).
fn head(path: &str) -> Vec<u8> {
    // POST, http
    let mut octets = vec![0x83, 0x86];
    let mut add = |name: &[u8], value: &str| {
        octets.extend(name);
        octets.push(u8::try_from(value.len()).unwrap());
        octets.extend(value.bytes());
    };
    add(&[0x04], path);
    add(&[0x01], "127.0.0.1:817");
    add(&[0x0f, 0x10], "application/grpc");
    add(b"\x00\x02te", "trailers");
    octets
}

const WATCH: &str = "/portmaster.api.v1.Connections/Watch";
const VERSION: &str = "/portmaster.api.v1.System/GetVersion";

/// What came back before the end, or before nothing more came, as kinds of frames; and whether it was the end.
fn said(world: &World, octets: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = world.host.enter(|| TcpStream::connect("127.0.0.1:817").unwrap());
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // whoever is sent too much may stop reading
    let _ = stream.write_all(PREFACE);
    let _ = stream.write_all(&frame(SETTINGS, 0, 0, &[]));
    let _ = stream.write_all(octets);
    let (mut came, mut buffer) = (Vec::new(), [0; 16 << 10]);
    let ended = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => came.extend(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    let mut kinds = Vec::new();
    let mut rest = came.as_slice();
    while let [a, b, c, kind, ..] = rest {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    (kinds, ended)
}

fn resident(world: &World) -> u64 {
    let pid = world.service(Service::ApiGateway).pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Alone, without a firewall: what is tried here is the gateway.
fn gateway(label: &str) -> World {
    let mut world = World::builder(label).without_services().start();
    world.start_service(Service::ApiGateway);
    world
}

#[test]
fn frames_that_are_none_end_their_connection() {
    let world = gateway("frames");
    let open = |flags| frame(HEADERS, END_HEADERS | flags, 1, &head(VERSION));
    let cases: [(&str, Vec<u8>); 22] = [
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data of a stream that is not there", frame(DATA, 0, 1, b"x")),
        (
            "headers on stream 0",
            frame(HEADERS, END_HEADERS, 0, &head(VERSION)),
        ),
        (
            "headers on a server's stream",
            frame(HEADERS, END_HEADERS, 2, &head(VERSION)),
        ),
        (
            "an earlier stream",
            [
                frame(HEADERS, 5, 5, &head(VERSION)),
                frame(HEADERS, 5, 3, &head(VERSION)),
            ]
            .concat(),
        ),
        ("padding beyond the frame", frame(DATA, PADDED, 1, &[200, 1])),
        (
            "headers that are padded to nothing",
            frame(HEADERS, END_HEADERS | PADDED, 1, &[255]),
        ),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings of 5 octets", frame(SETTINGS, 0, 0, &[0; 5])),
        (
            "an acknowledgement that says something",
            frame(SETTINGS, 1, 0, &[0; 6]),
        ),
        (
            "a window beyond 2^31",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("frames of no size", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("a ping of 7 octets", frame(PING, 0, 0, &[0; 7])),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        ("a window grown by nothing", frame(WINDOW, 0, 0, &[0; 4])),
        (
            "a window grown too much",
            frame(WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        ("a reset of what is not there", frame(RESET, 0, 7, &[0; 4])),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &head(VERSION)),
        ),
        (
            "data among headers",
            [frame(HEADERS, 0, 1, &head(VERSION)), frame(DATA, 0, 1, b"x")].concat(),
        ),
        ("a promise", frame(PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        (
            "compression that is none",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "a priority of itself and half a frame",
            [open(0), frame(PRIORITY, 0, 1, &[0, 0, 0])].concat(),
        ),
    ];
    for (what, octets) in cases {
        let (kinds, ended) = said(&world, &octets);
        assert!(
            ended || kinds.contains(&GO_AWAY) || kinds.contains(&RESET),
            "{what}: {kinds:?}"
        );
    }
    // what is unknown is passed over (section 4.1), and the call behind it answered
    let unknown = [
        frame(0x17, 0xff, 0, b"whatever"),
        open(0),
        frame(DATA, END_STREAM, 1, &[0; 5]),
    ]
    .concat();
    let (kinds, _) = said(&world, &unknown);
    assert!(kinds.contains(&HEADERS) && kinds.contains(&DATA), "{kinds:?}");
    assert_eq!(Line::open(&world).call(VERSION, "{}").unwrap().code, 200);
    assert!(resident(&world) < MEMORY, "{} KiB", resident(&world));
}

#[test]
fn frames_by_the_ten_thousand_cost_a_bounded_amount_and_others_are_served() {
    let world = gateway("floods");
    let stream = |number: u32| 2 * number + 1;
    let opened_and_reset = |number| {
        [
            frame(HEADERS, END_HEADERS, stream(number), &head(VERSION)),
            frame(RESET, 0, stream(number), &[0, 0, 0, 8]),
        ]
        .concat()
    };
    // one name of 4,000 octets, kept in the table of names, then named by one octet as often as a frame holds
    let mut bomb = head(VERSION);
    bomb.extend([0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e]);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 8000]);
    let endless = [frame(HEADERS, 0, 1, &head(VERSION))]
        .into_iter()
        .chain((0..4000).map(|_| {
            frame(
                CONTINUATION,
                0,
                1,
                &[b"\x00\x01x\x7f\x81\x07".as_slice(), &[b'y'; 1024]].concat(),
            )
        }));
    let slow = frame(HEADERS, END_HEADERS, 1, &head(VERSION));
    let floods: [(&str, Vec<u8>); 8] = [
        ("pings", frame(PING, 0, 0, &[0; 8]).repeat(20_000)),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(20_000)),
        (
            "streams that are reset at once",
            (0..20_000).flat_map(opened_and_reset).collect(),
        ),
        (
            "streams that say nothing more",
            (0..5000)
                .flat_map(|n| frame(HEADERS, END_HEADERS, stream(n), &head(VERSION)))
                .collect(),
        ),
        ("headers without an end", endless.flatten().collect()),
        (
            "a name by reference",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb),
        ),
        (
            "data of nothing",
            [slow.clone(), frame(DATA, 0, 1, &[]).repeat(50_000)].concat(),
        ),
        (
            "windows by one",
            [slow, frame(WINDOW, 0, 0, &[0, 0, 0, 1]).repeat(50_000)].concat(),
        ),
    ];
    let mut other = Line::open(&world);
    for (what, octets) in floods {
        let _ = said(&world, &octets);
        let served = other.call(VERSION, "{}");
        assert!(served.is_some_and(|answer| answer.code == 200), "{what}");
        assert!(resident(&world) < MEMORY, "{what}: {} KiB", resident(&world));
    }
}

/// `grpc-status` of a call with this body; -1: the stream was reset.
async fn status(path: &str, authority: &str, body: Vec<u8>) -> i32 {
    let stream = tokio::net::TcpStream::connect("127.0.0.1:817").await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{authority}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut out) = client.send_request(request, false).unwrap();
    let _ = out.send_data(Bytes::from(body), true);
    let answered = async {
        let mut response = response.await.ok()?;
        if let Some(status) = response.headers().get("grpc-status") {
            return status.to_str().ok()?.parse().ok();
        }
        while let Some(data) = response.body_mut().data().await {
            let count = data.ok()?.len();
            let _ = response.body_mut().flow_control().release_capacity(count);
        }
        let trailers = response.body_mut().trailers().await.ok()??;
        trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
    };
    let said = tokio::time::timeout(Duration::from_secs(20), answered).await;
    driver.abort();
    said.unwrap().unwrap_or(-1)
}

#[test]
fn messages_that_are_none_get_an_error_in_grpc() {
    let world = gateway("messages");
    let explain = "/portmaster.api.v1.Policy/Explain";
    let ours = "127.0.0.1:817";
    let message =
        |flag: u8, length: u32, octets: &[u8]| [&[flag][..], &length.to_be_bytes(), octets].concat();
    let cases = [
        ("nothing", explain, ours, vec![]),
        ("half a length", explain, ours, vec![0, 0, 0]),
        ("less than it says", explain, ours, message(0, 100, b"short")),
        (
            "compressed without a word",
            explain,
            ours,
            message(1, 2, &[0x1f, 0x8b]),
        ),
        ("a flag that is none", explain, ours, message(7, 0, &[])),
        ("all that can be", explain, ours, message(0, u32::MAX, &[0; 64])),
        (
            "five megabytes",
            explain,
            ours,
            message(0, 5 << 20, &vec![0; 5 << 20]),
        ),
        ("no protobuf", explain, ours, message(0, 4, &[0xff; 4])),
        ("groups in groups", explain, ours, message(0, 1000, &[0x0b; 1000])),
        (
            "no such method",
            "/portmaster.api.v1.Policy/Nonsense",
            ours,
            message(0, 0, &[]),
        ),
        (
            "the mesh's own",
            "/portmaster.policy.v1.Policy/Change",
            ours,
            message(0, 0, &[]),
        ),
        (
            "another host's name",
            VERSION,
            "rebound.example:817",
            message(0, 0, &[]),
        ),
    ];
    world.host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for (what, path, authority, body) in cases {
                // the stream whose requests the gateway reads by itself, too
                for path in [path, if path == explain { WATCH } else { path }] {
                    let status = status(path, authority, body.clone()).await;
                    assert_ne!(status, 0, "{path}: {what}");
                }
            }
            assert_eq!(status(VERSION, ours, message(0, 0, &[])).await, 0);
        });
    });
    assert!(resident(&world) < MEMORY, "{} KiB", resident(&world));
}
