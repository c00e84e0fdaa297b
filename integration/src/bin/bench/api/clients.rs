//! Programs that call the gateway, from the host's namespace.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use api::v1::{
    ConnectionFilter, Endpoint, ExplainConnectionRequest, GetVersionRequest, WatchConnectionsRequest,
    WhoAmIRequest, policy_client::PolicyClient, system_client::SystemClient,
};
use bytes::Bytes;
use prost_types::FieldMask;
use proto::flow::v1::Verdict;
use tonic::{
    Request,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint as Way},
};
use tonic_prost::ProstCodec;

const GATEWAY: &str = "http://127.0.0.1:817";
const WATCH: &str = "/portmaster.api.v1.Connections/Watch";

/// A reply whose events are counted, and not read: what is measured is the gateway.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Counted {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    events: Vec<Bytes>,
    #[prost(uint64, tag = "2")]
    dropped: u64,
    #[prost(string, tag = "3")]
    event_id: String,
}

/// `bench load api …`
pub(in super::super) fn load(words: &[&str]) {
    match words {
        ["calls", count] => runtime().block_on(calls(count.parse().unwrap())),
        ["watch", clients, seconds] => {
            let seconds = Duration::from_secs(seconds.parse().unwrap());
            let all = WatchConnectionsRequest::default();
            runtime().block_on(watch(clients.parse().unwrap(), seconds, &all));
        }
        // as a widget does: the allowed ones, and of them who, where to and what became of it
        ["watch-some", clients, seconds] => {
            let seconds = Duration::from_secs(seconds.parse().unwrap());
            let paths = ["id", "domain", "remote", "process.executable", "decision.verdict"];
            let some = WatchConnectionsRequest {
                filter: Some(ConnectionFilter {
                    verdicts: vec![Verdict::Allow.into()],
                    ..ConnectionFilter::default()
                }),
                read_mask: Some(FieldMask {
                    paths: paths.map(str::to_owned).to_vec(),
                }),
                ..WatchConnectionsRequest::default()
            };
            runtime().block_on(watch(clients.parse().unwrap(), seconds, &some));
        }
        ["watch-sse", clients, seconds] => pages(
            clients.parse().unwrap(),
            Duration::from_secs(seconds.parse().unwrap()),
        ),
        ["keep-watching", clients] => {
            let clients: usize = clients.parse().unwrap();
            runtime().block_on(async {
                let all = WatchConnectionsRequest::default();
                let tasks: Vec<_> = (0..clients)
                    .map(|_| tokio::spawn(one(Duration::MAX, all.clone())))
                    .collect();
                println!("watching");
                for task in tasks {
                    let _ended = task.await;
                }
            });
        }
        ["paced", address, rate, seconds] => paced(
            address.parse().unwrap(),
            rate.parse().unwrap(),
            Duration::from_secs(seconds.parse().unwrap()),
        ),
        _ => panic!("no such load: {words:?}"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn channel() -> Channel {
    Way::from_static(GATEWAY).connect().await.unwrap()
}

/// What one client got: events, lost, and missing between the first place and the last.
async fn one(time: Duration, request: WatchConnectionsRequest) -> (u64, u64, u64) {
    let mut grpc = Grpc::new(channel().await);
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<WatchConnectionsRequest, Counted>::default();
    let request = Request::new(request);
    let path = PathAndQuery::from_static(WATCH);
    let mut messages = grpc
        .server_streaming(request, path, codec)
        .await
        .unwrap()
        .into_inner();
    let first = place(&messages.message().await.unwrap().unwrap());
    let (mut events, mut lost, mut last) = (0, 0, first);
    let end = Instant::now().checked_add(time);
    while end.is_none_or(|end| Instant::now() < end) {
        let Some(message) = messages.message().await.unwrap() else {
            break;
        };
        events += message.events.len() as u64;
        lost += message.dropped;
        last = place(&message);
    }
    (events, lost, (last - first) - events)
}

fn place(message: &Counted) -> u64 {
    message.event_id.rsplit_once('-').unwrap().1.parse().unwrap()
}

async fn watch(clients: usize, time: Duration, request: &WatchConnectionsRequest) {
    let tasks: Vec<_> = (0..clients)
        .map(|_| tokio::spawn(one(time, request.clone())))
        .collect();
    let (mut least, mut lost, mut missing) = (u64::MAX, 0, 0);
    for task in tasks {
        let got = task.await.unwrap();
        least = least.min(got.0);
        lost += got.1;
        missing += got.2;
    }
    println!("{} {lost} {missing}", least as f64 / time.as_secs_f64());
}

/// The same by server-sent events: the least of their events a second, and what all of them lost. Each event has one `"kind"`.
fn pages(clients: usize, time: Duration) {
    let threads: Vec<_> = (0..clients).map(|_| thread::spawn(move || page(time))).collect();
    let told: Vec<(usize, u64)> = threads.into_iter().map(|page| page.join().unwrap()).collect();
    let least = told.iter().map(|(events, _)| *events).min().unwrap();
    let lost: u64 = told.iter().map(|(_, lost)| lost).sum();
    println!("{} {lost}", least as f64 / time.as_secs_f64());
}

fn page(time: Duration) -> (usize, u64) {
    let mut stream = TcpStream::connect("127.0.0.1:817").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    write!(stream, "GET {WATCH} HTTP/1.1\r\nhost: 127.0.0.1:817\r\n\r\n").unwrap();
    let (start, mut events, mut lost, mut rest) = (Instant::now(), 0, 0, Vec::new());
    let mut buffer = vec![0; 256 << 10];
    while start.elapsed() < time {
        let count = stream.read(&mut buffer).unwrap_or(0);
        rest.extend_from_slice(&buffer[..count]);
        let kept = rest.len().saturating_sub(24);
        let begins = |needle: &[u8]| {
            rest.windows(needle.len())
                .take(kept)
                .filter(|at| *at == needle)
                .count()
        };
        events += begins(b"{\"kind\":\"");
        lost += begins(b"\"dropped\":\"") as u64;
        rest.drain(..kept);
    }
    (events, lost)
}

/// Medians in microseconds: the gateway's own answer, one about a process, one of another service, and that in JSON.
async fn calls(count: usize) {
    let channel = channel().await;
    let mut system = SystemClient::new(channel.clone());
    let mut policy = PolicyClient::new(channel);
    let question = || ExplainConnectionRequest {
        executable: "/usr/bin/curl".into(),
        remote: Some(Endpoint {
            address: "192.0.2.1".into(),
            port: 443,
        }),
        ..ExplainConnectionRequest::default()
    };
    let mut taken = [const { Vec::new() }; 4];
    for _ in 0..count {
        let start = Instant::now();
        system.get_version(GetVersionRequest {}).await.unwrap();
        taken[0].push(start.elapsed());
        let start = Instant::now();
        system.who_am_i(WhoAmIRequest {}).await.unwrap();
        taken[1].push(start.elapsed());
        let start = Instant::now();
        policy.explain(question()).await.unwrap();
        taken[2].push(start.elapsed());
    }
    let mut stream = TcpStream::connect("127.0.0.1:817").unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..count {
        let start = Instant::now();
        in_json(&mut stream, &mut answers);
        taken[3].push(start.elapsed());
    }
    for mut times in taken {
        times.sort_unstable();
        println!("{}", times[count / 2].as_secs_f64() * 1e6);
    }
}

fn in_json(stream: &mut TcpStream, answers: &mut BufReader<TcpStream>) {
    let body = r#"{"executable": "/usr/bin/curl", "remote": {"address": "192.0.2.1", "port": 443}}"#;
    let request = format!(
        "POST /portmaster.api.v1.Policy/Explain HTTP/1.1\r\nhost: 127.0.0.1:817\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    answers.read_exact(&mut answer).unwrap();
    assert!(
        answer.starts_with(b"{\"decision\""),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// So many connections a second, each closed by a reset.
fn paced(address: SocketAddr, rate: u32, time: Duration) {
    println!("begun");
    let (start, mut made) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        let due = start.elapsed().as_secs_f64() * f64::from(rate);
        while f64::from(made) < due {
            if let Ok(stream) = TcpStream::connect(address) {
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
            made += 1;
        }
        thread::sleep(Duration::from_millis(1));
    }
}
