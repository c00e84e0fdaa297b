//! What everybody else sees.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
};

use crate::place::{OPEN, Place, text};

#[test]
fn strangers_see_a_web_server_and_nothing_of_a_node() {
    // of SHA-256 of "open sesame"
    let token = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
    let place = Place::new(&OPEN.replace("'none'", &format!("{{ token = ['{token}'] }}")));
    let node = place.node.v4;
    for arguments in [vec!["-ki", "--http1.1"], vec!["-ki", "--http2"]] {
        for (path, status, holds) in [
            ("/", "200", "Welcome to nginx!"),
            ("/.well-known/gate17/map", "404", "nginx"),
        ] {
            let mut all = arguments.clone();
            let url = format!("https://{node}{path}");
            all.push(&url);
            let said = text(&place.curl(&all));
            assert!(
                said.lines().next().unwrap().contains(status) && said.contains(holds),
                "{said}"
            );
            assert!(
                said.to_lowercase().contains("server: nginx") && !said.to_lowercase().contains("gate17"),
                "{said}"
            );
        }
    }
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let url = format!("http://{echo}/");
    for credentials in [
        vec![],
        vec!["--proxy-header", "Proxy-Authorization: Bearer wrong"],
    ] {
        let mut all = vec!["-v"];
        all.extend(credentials);
        all.push(&url);
        let said = text(&place.through(&all));
        assert!(said.contains(" 400 Bad Request"), "as nginx answers: {said}");
        assert!(!said.to_lowercase().contains("proxy-status"), "{said}");
    }
    let (_server, url, _big) = place.files(10);
    let said = place.through(&["--proxy-header", "Proxy-Authorization: Bearer open sesame", &url]);
    assert_eq!(said.stdout.len(), 10, "who may: {}", text(&said));
}

#[test]
fn port_80_is_a_page_and_a_way_to_tls() {
    let place = Place::new(OPEN);
    let said = text(&place.curl(&["-i", &format!("http://{}/", place.node.v4)]));
    assert!(
        said.contains("200 OK") && said.contains("Welcome to nginx!"),
        "{said}"
    );
    // nothing is carried in the clear
    let mut stream = place
        .say(
            80,
            b"CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let mut stream = place
        .say(
            80,
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\n\r\n",
        )
        .unwrap();
    let mut said = [0; 32];
    stream.read_exact(&mut said).unwrap();
    assert!(said.starts_with(b"HTTP/1.1 101 Switching Protocols"), "{said:?}");
    // and within TLS, as everywhere else
    let echo = place.far.echo(place.server.v4, 7000).to_string();
    let mut carry = place.client.command("python3");
    carry.args(["-c", UPGRADED, &place.node.v4.to_string(), &echo]);
    let said = text(&carry.output().unwrap());
    assert_eq!(said.trim(), "carried", "{said}");
}

/// Port 80, upgraded by another's TLS, and a connection through it.
const UPGRADED: &str = r#"
import socket, ssl, sys
plain = socket.create_connection((sys.argv[1], 80), 20)
plain.sendall(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.3\r\n\r\n")
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += plain.recv(1) or sys.exit("no end of the head")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
stream = context.wrap_socket(plain)
stream.sendall(b"CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n" % sys.argv[2].encode())
said = b""
while b"\r\n\r\n" not in said:
    said += stream.recv(4096) or sys.exit("no answer")
assert said.startswith(b"HTTP/1.1 200 "), said
stream.sendall(b"carried\n")
print(stream.recv(4096).decode())
"#;

#[test]
fn port_17_has_a_quote_for_who_says_nothing_and_for_who_says_anything() {
    let place = Place::new(OPEN);
    for (octets, ends) in [
        (b"".as_slice(), false),
        (b"what is this\r\n", false),
        (b"", true),
        (b"\x16", false),
    ] {
        let mut stream = place.say(17, octets).unwrap();
        if ends {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        assert!(
            said.ends_with(b"\r\n") && said.len() < 512,
            "{octets:?}: {said:?}"
        );
    }
    let said = text(&place.curl(&["-ki", &format!("https://{}:17/", place.node.v4)]));
    assert!(said.contains("Welcome to nginx!"), "TLS on port 17: {said}");
}

#[test]
fn port_443_has_no_quotes() {
    let place = Place::new(OPEN);
    let mut stream = place.say(443, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.write_all(b"").unwrap();
    let mut said = [0; 24];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 400 Bad Request");
    let mut said = Vec::new();
    let mut stream = place.say(443, b"what is this\r\n").unwrap();
    let _ = stream.read_to_end(&mut said);
    assert!(
        said.starts_with(b"HTTP/1.1 400 Bad Request"),
        "as nginx answers: {said:?}"
    );
}
