//! Who wants to do harm costs himself, and nobody else.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use integration::{Service, World, eventually};

use super::{
    line::Line,
    stage::{NOBODY, call, curl, post, world},
};

const GATEWAY: &str = "127.0.0.1:817";

fn connect() -> TcpStream {
    let address: SocketAddr = GATEWAY.parse().unwrap();
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream
}

/// What comes back for these octets until the end; a reset is an end.
fn said(octets: &[u8]) -> String {
    let mut stream = connect();
    let _ = stream.write_all(octets);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn counter(world: &World, name: &str) -> u64 {
    let told = call(world, "System/ListServices", "{}").json();
    let services = told["services"].as_array().unwrap();
    let ours = services
        .iter()
        .find(|service| service["name"] == "api-gateway")
        .unwrap();
    let count = ours["state"]["counters"][name].as_str().unwrap_or("0");
    count.parse().unwrap()
}

#[test]
fn garbage_ends_its_own_connection() {
    let world = world("garbage");
    world.host.enter(|| {
        let http = said(b"\x16\x03\x01\x00\xff garbage\r\n\r\n");
        assert!(http.is_empty() || http.starts_with("HTTP/1.1 400"), "{http}");
        // HTTP/2's preface, then a frame that is longer than it may be
        let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        assert!(said(&frames).len() < 4096);
        // headers without an end
        let mut long = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:817\r\n".to_vec();
        for number in 0..4096 {
            long.extend(format!("x-{number}: {number}\r\n").bytes());
        }
        let long = said(&long);
        assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
    });
    let too_long = format!("{{\"name\": \"{}\"}}", "x".repeat(5 << 20));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    std::fs::write(&file, too_long).unwrap();
    let refused = post(&world, "0", "Tokens/Revoke", &format!("@{}", file.display()), &[]);
    assert_eq!(refused.code, 429, "{}", refused.text);
    assert_eq!(call(&world, "System/GetVersion", "{}").code, 200);
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let world = world("silent");
    world.host.enter(|| {
        let mut silent = connect();
        let mut slow = connect();
        slow.write_all(b"G").unwrap();
        let mut half = connect();
        half.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
        for stream in [&mut silent, &mut slow, &mut half] {
            let mut text = Vec::new();
            // an end or a reset, before our own patience ends
            match stream.read_to_end(&mut text) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
            }
        }
    });
}

#[test]
fn one_users_idle_connections_leave_the_others_theirs() {
    let mut world = World::builder("idle").start();
    world.config_file("api-gateway.toml", "connections_per_user = 50\n");
    world.start_service(Service::ApiGateway);
    let mut command = world.host.command("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
    ]);
    command.arg(
        "import socket, time\n\
         held = [socket.create_connection(('127.0.0.1', 817)) for _ in range(80)]\n\
         time.sleep(30)\n",
    );
    let log = world.root().join("idle.log");
    let _idle = integration::Running::start_logged("idle", command, &log);
    eventually("some find no room", || {
        (counter(&world, "connections_too_many") > 0).then_some(())
    });
    // who is turned away hears why
    let refused = post(&world, NOBODY, "System/GetVersion", "{}", &[]);
    assert_eq!(refused.code, 429, "{refused:?}");
    assert!(
        refused.message().contains("`connections_per_user`"),
        "{refused:?}"
    );
    assert_eq!(call(&world, "System/GetVersion", "{}").code, 200);
}

#[test]
fn who_calls_too_often_is_told_and_holds_up_nobody_else() {
    let mut world = World::builder("often").without_services().start();
    world.config_file("api-gateway.toml", "calls_per_second = 5\n");
    world.start_service(Service::ApiGateway);
    let mut line = Line::open(&world);
    let path = "/portmaster.api.v1.System/GetVersion";
    let answers: Vec<_> = (0..40).map(|_| line.call(path, "{}").unwrap()).collect();
    // two seconds' worth may come at once
    assert!(answers.iter().take(10).all(|answer| answer.code == 200));
    let refused = answers.iter().find(|answer| answer.code == 429).unwrap();
    assert!(refused.message().contains("too many calls"), "{refused:?}");
    assert_eq!(post(&world, NOBODY, "System/GetVersion", "{}", &[]).code, 200);
    eventually("it passes", || {
        (line.call(path, "{}").unwrap().code == 200).then_some(())
    });
}

#[test]
fn a_browsers_session_is_a_cookie_that_is_worth_nothing_to_another_user() {
    let world = world("session");
    let made = call(
        &world,
        "Tokens/Create",
        r#"{"name": "browser", "scope": "SCOPE_READ"}"#,
    )
    .json();
    let secret = made["secret"].as_str().unwrap();
    let log_in = |token: &str, kind: &str| {
        let mut command = curl(&world, NOBODY);
        command.args(["-i", "-d", &format!("{{\"token\": \"{token}\"}}"), "-H", kind]);
        let output = command.arg("http://127.0.0.1:817/session").output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let json = "content-type: application/json";
    let said = log_in(secret, json);
    let cookie = said
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!said.contains(secret), "{said}");
    let shown = format!("cookie: {}", cookie.split(';').next().unwrap());
    assert_eq!(
        post(&world, NOBODY, "Connections/List", "{}", &[&shown]).code,
        200
    );
    // whoever else gets hold of it: browsers send it to every port of this host
    let other = post(&world, "1", "Connections/List", "{}", &[&shown]);
    assert_eq!(other.code, 401, "{other:?}");
    assert!(other.message().contains("another user"), "{other:?}");
    for (token, kind) in [("pm_wrong", json), (secret, "content-type: text/plain")] {
        let refused = log_in(token, kind);
        assert!(!refused.contains("set-cookie"), "{refused}");
    }
}

#[test]
fn guessing_tokens_ends_soon_and_is_told() {
    let world = world("guess");
    let made = call(&world, "Tokens/Create", r#"{"name": "a", "scope": "SCOPE_READ"}"#).json();
    let right = format!("authorization: Bearer {}", made["secret"].as_str().unwrap());
    let codes: Vec<u16> = (0..20)
        .map(|number| {
            let guess = format!("authorization: Bearer pm_{number}");
            post(&world, NOBODY, "Connections/List", "{}", &[&guess]).code
        })
        .collect();
    assert_eq!((codes[0], codes[19]), (401, 429));
    assert!(world.output(Service::ApiGateway).contains("wrong tokens"));
    assert_eq!(
        post(&world, "1", "Connections/List", "{}", &[&right]).code,
        200,
        "another user's"
    );
}
