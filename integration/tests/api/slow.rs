//! Who does not read costs bounded memory, hears how much he lost, and nobody else loses anything.

use std::time::Duration;

use api::v1::{WatchConnectionsReply, WatchConnectionsRequest, connections_client::ConnectionsClient};
use bytes::{Buf as _, Bytes, BytesMut};
use integration::{Running, World, world::INTERNET_V4};
use prost::Message as _;
use tonic::transport::Endpoint;

use super::{crowd::resident, stage::world};

/// More than the gateway remembers (16,384).
const EVENTS: u64 = 20_000;
/// KiB, of a debug build.
const MEMORY: u64 = 160 << 10;
/// On a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Connections, each ended by a reset.
fn storm(world: &World) -> Running {
    let script = format!(
        "import socket, struct\n\
         reset = struct.pack('ii', 1, 0)\n\
         for i in range({EVENTS}):\n\
         \x20   with socket.create_connection(('{INTERNET_V4}', 8710), 5) as s:\n\
         \x20       s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)\n"
    );
    let mut python = world.host.command("/usr/bin/python3");
    python.args(["-c", &script]);
    Running::start_logged("storm", python, &world.root().join("storm.log"))
}

/// The last event that a message tells of, by its number.
fn place(message: &WatchConnectionsReply) -> u64 {
    message.event_id.rsplit_once('-').unwrap().1.parse().unwrap()
}

/// A stream that is read only when it is asked for, and stands still until then (65,535 octets, RFC 9113 section 6.9.2).
struct Unread {
    body: h2::RecvStream,
    octets: BytesMut,
    _driver: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Unread {
    async fn open() -> Self {
        let stream = tokio::net::TcpStream::connect("127.0.0.1:817").await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::post("http://127.0.0.1:817/portmaster.api.v1.Connections/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut out) = client.send_request(request, false).unwrap();
        out.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        Self {
            body: response.await.unwrap().into_body(),
            octets: BytesMut::new(),
            _driver: driver,
        }
    }

    async fn message(&mut self) -> WatchConnectionsReply {
        loop {
            if let Some(head) = self.octets.get(1..5) {
                let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
                if self.octets.len() >= 5 + length {
                    self.octets.advance(5);
                    return WatchConnectionsReply::decode(self.octets.split_to(length)).unwrap();
                }
            }
            let data = tokio::time::timeout(PATIENCE, self.body.data()).await;
            let data = data.unwrap().unwrap().unwrap();
            let _ = self.body.flow_control().release_capacity(data.len());
            self.octets.extend_from_slice(&data);
        }
    }
}

#[test]
fn who_does_not_read_is_told_what_he_lost_and_costs_nobody_anything() {
    let world = world("slow");
    world
        .host
        .sh("sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1");
    world.internet.echo(INTERNET_V4, 8710);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    world.host.enter(|| runtime.block_on(watched(&world)));
}

async fn watched(world: &World) {
    let mut slow = Unread::open().await;
    let channel = Endpoint::from_static("http://127.0.0.1:817")
        .connect()
        .await
        .unwrap();
    let all = WatchConnectionsRequest::default();
    let mut reading = ConnectionsClient::new(channel)
        .watch(all)
        .await
        .unwrap()
        .into_inner();
    let begun = place(&reading.message().await.unwrap().unwrap());
    let _storm = storm(world);
    // who reads gets everything
    let (mut events, mut now) = (0, begun);
    while events < EVENTS {
        let message = tokio::time::timeout(PATIENCE, reading.message()).await;
        let message = message.unwrap().unwrap().unwrap();
        assert_eq!(message.dropped, 0, "after {events} events");
        events += message.events.len() as u64;
        now = place(&message);
    }
    assert_eq!(now - begun, events);
    assert!(resident(world) < MEMORY, "{} KiB", resident(world));

    let (mut got, mut lost) = (0, 0);
    let first = place(&slow.message().await);
    let last = loop {
        let message = slow.message().await;
        got += message.events.len() as u64;
        lost += message.dropped;
        if place(&message) >= now {
            break place(&message);
        }
    };
    assert_eq!(last - first, got + lost, "{got} events and {lost} lost");
    assert!(lost > 0 && got > 10_000, "{got} events and {lost} lost");
}
