//! What is carried for who may.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
};

use bytes::Bytes;
use http::StatusCode;
use rustix::process::Signal;

use crate::{
    client::{connect, read, within},
    place::{OPEN, Place, text},
};

#[test]
fn curl_downloads_through_a_node() {
    let place = Place::new(OPEN);
    let (_server, url, big) = place.files(100 << 20);
    let got = place.folder.path().join("got");
    let done = place.through(&["-o", got.to_str().unwrap(), &url]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(
        fs::read(&got).unwrap() == fs::read(&big).unwrap(),
        "every octet, in order"
    );
}

#[test]
fn a_stream_of_http2_carries_both_ways_and_closes_each_way_by_itself() {
    let place = Place::new(OPEN);
    let addresses = [
        (place.node.v4.into(), place.server.v4.into()),
        (IpAddr::from(place.node.v6), IpAddr::from(place.server.v6)),
    ];
    for (node, server) in addresses {
        let echo = place.far.echo(server, 7000);
        within(&place.client, async move {
            let client = connect((node, 443).into()).await;
            let (response, mut stream) = client.open(&echo.to_string()).await;
            assert_eq!(response.status(), StatusCode::OK);
            let mut body = response.into_body();
            stream.send_data(Bytes::from_static(b"one\n"), false).unwrap();
            assert_eq!(read(&mut body, 4).await, b"one\n");
            // the end of ours is the end of the server's input; what it says after that still comes
            stream.send_data(Bytes::from_static(b"two\n"), true).unwrap();
            assert_eq!(read(&mut body, usize::MAX).await, b"two\n");
        });
    }
}

#[test]
fn datagrams_go_there_and_back_and_are_told_that_nobody_is_there() {
    let place = Place::new(OPEN);
    let node = (place.node.v4, 443).into();
    for server in [IpAddr::from(place.server.v4), place.server.v6.into()] {
        let socket = place.far.enter(|| UdpSocket::bind((server, 7001))).unwrap();
        std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while let Ok((count, from)) = socket.recv_from(&mut datagram) {
                socket.send_to(&datagram[..count], from).unwrap();
            }
        });
        within(&place.client, async move {
            let client = connect(node).await;

            let (response, mut stream) = client.open_udp((server, 7001).into()).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()["capsule-protocol"], "?1");
            let mut body = response.into_body();

            // a datagram in two pieces, then two in one: type, length, context, payload
            stream.send_data(Bytes::from_static(b"\0\x04\0o"), false).unwrap();
            stream.send_data(Bytes::from_static(b"ne"), false).unwrap();

            assert_eq!(read(&mut body, 6).await, b"\0\x04\0one");
            stream
                .send_data(Bytes::from_static(b"\0\x04\0two\0\x06\0three"), false)
                .unwrap();
            assert_eq!(read(&mut body, 14).await, b"\0\x04\0two\0\x06\0three");

            let (response, mut stream) = client.open_udp((server, 7002).into()).await;
            let mut body = response.into_body();

            // ICMP's answer comes after the first, and ends the stream
            stream
                .send_data(Bytes::from_static(b"\0\x04\0one"), false)
                .unwrap();
            let ended = body.data().await.unwrap().unwrap_err();
            assert_eq!(ended.reason(), Some(h2::Reason::CONNECT_ERROR));
        });
        // and of a client that knows HTTP/1.1 alone, another's TLS
        let mut upgrade = place.client.command("python3");
        upgrade.args(["-c", UPGRADED, &place.node.v4.to_string(), &server.to_string()]);
        let said = text(&upgrade.output().unwrap());
        assert_eq!(said.trim(), "carried, ended, refused, closed", "{said}");
    }
}

/// `connect-udp` of HTTP/1.1 (RFC 9298, section 3.2): to an echo at port 7001, to nobody at 7002, and where it may not.
const UPGRADED: &str = r#"
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["http/1.1"])
def ask(target, upgrade="Upgrade: connect-udp\r\nConnection: Upgrade\r\nCapsule-Protocol: ?1\r\n", more=b""):
    stream = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 20), suppress_ragged_eofs=False)
    stream.sendall(f"GET {target} HTTP/1.1\r\nHost: node\r\n{upgrade}\r\n".encode() + more)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1) or sys.exit("no end of the head")
    return stream, head.decode().lower()
def take(stream, count):
    octets = b""
    while len(octets) < count:
        octets += stream.recv(count - len(octets)) or sys.exit("it ended")
    return octets
path = "/.well-known/masque/udp/" + sys.argv[2].replace(":", "%3A")
# the first datagram comes with the head: it is not lost
stream, head = ask(path + "/7001/", more=b"\0\x04\0on")
assert head.startswith("http/1.1 101 ") and "\r\nupgrade: connect-udp\r\n" in head, head
assert "\r\nconnection: upgrade\r\n" in head and "\r\ncapsule-protocol: ?1\r\n" in head, head
assert "content-length" not in head and "transfer-encoding" not in head, head
stream.sendall(b"e")
assert take(stream, 6) == b"\0\x04\0one"
# a capsule that nobody knows, then one of 1,200 octets
long = b"x" * 1200
stream.sendall(b"\x17\x03abc\0\x44\xb1\0" + long)
assert take(stream, 1204) == b"\0\x44\xb1\0" + long
stream.unwrap()
print("carried", end=", ")
stream, head = ask("https://node" + path + "/7002/")
assert head.startswith("http/1.1 101 "), head
stream.sendall(b"\0\x04\0one")
try:
    sys.exit(f"nobody said {stream.recv(9)!r}")
except OSError:
    print("ended", end=", ")
for target, status in ((path + "/7001", 403), ("/.well-known/masque/udp/127.0.0.1/53/", 403)):
    head = ask(target)[1]
    assert head.startswith(f"http/1.1 {status} ") and "proxy-status: gate17; error=" in head, head
assert ask(path + "/7001/", "")[1].startswith("http/1.1 404 "), "a page, where none is"
print("refused", end=", ")
# a datagram longer than any
stream, head = ask(path + "/7001/", more=b"\0\x80\x02\0\0")
try:
    assert not stream.recv(9)
except OSError:
    print("closed")
"#;

#[test]
fn a_refusal_says_why() {
    let place = Place::new(OPEN);
    let cases = [
        (format!("{}:1", place.server.v4), 502, "connection_refused"),
        (format!("{}:443", place.out.v4), 403, "destination_ip_prohibited"),
        (format!("{}:443", place.node.v4), 403, "destination_ip_prohibited"),
        ("127.0.0.1:443".to_owned(), 403, "destination_ip_prohibited"),
        ("192.168.1.1:80".to_owned(), 403, "destination_ip_prohibited"),
        ("9.9.9.9:443".to_owned(), 502, "destination_unavailable"),
    ];
    let node = (place.node.v4, 443).into();
    within(&place.client, async move {
        let client = connect(node).await;
        for (target, status, error) in cases {
            let (response, _stream) = client.open(&target).await;
            assert_eq!(response.status(), status, "{target}");
            let said = response.headers()["proxy-status"].to_str().unwrap();
            assert!(said.ends_with(&format!("error={error}")), "{target}: {said}");
        }
    });
}

#[test]
fn what_is_being_carried_ends_in_its_own_time_when_a_node_drains() {
    let place = Place::new(OPEN);
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let node = (place.node.v4, 443).into();
    let process = &place.process;
    within(&place.client, async move {
        let old = connect(node).await;
        let (response, mut stream) = old.open(&echo).await;
        let mut body = response.into_body();
        process.signal(Signal::HUP);
        // the old connection takes nothing new …
        while old.send.clone().ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        // … and what it carries goes on
        stream.send_data(Bytes::from_static(b"still\n"), false).unwrap();
        assert_eq!(read(&mut body, 6).await, b"still\n");
        let (response, _stream) = connect(node).await.open(&echo).await;
        assert_eq!(response.status(), StatusCode::OK, "new connections are welcome");
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(read(&mut body, usize::MAX).await.is_empty());
        drop(old.send);
        old.moving.await.unwrap().unwrap();
    });
}

#[test]
fn a_node_that_is_stopped_ends() {
    let place = Place::new(OPEN);
    let ended = place.process.stop();
    assert!(ended.success(), "{ended}");
}
