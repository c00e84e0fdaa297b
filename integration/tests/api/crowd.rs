//! Many at once, and those who are gone before they are answered.

use std::{net::TcpStream, time::Duration};

use integration::{Running, Service, World, eventually};

use super::{
    line::Line,
    stage::{NOBODY, call, post},
};

const VERSION: &str = "/portmaster.api.v1.System/GetVersion";
/// KiB.
const MEMORY: u64 = 160 << 10;

fn gateway(label: &str) -> World {
    let mut world = World::builder(label).without_services().start();
    world.config_file("api-gateway.toml", "calls_per_second = 100000\n");
    world.start_service(Service::ApiGateway);
    world
}

pub(crate) fn resident(world: &World) -> u64 {
    let pid = world.service(Service::ApiGateway).pid().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// As nobody, with room for many descriptors.
fn python(world: &World, script: &str) -> Running {
    let mut command = world.host.command("/usr/bin/python3");
    let script = format!(
        "import os, resource, socket, sys, time\n\
         resource.setrlimit(resource.RLIMIT_NOFILE, (12000, 12000))\n\
         os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n\
         def connect():\n    return socket.create_connection(('127.0.0.1', 817))\n\
         {script}"
    );
    command.args(["-c", &script]);
    Running::start_logged("python", command, &world.root().join("python.log"))
}

#[test]
fn ten_thousand_idle_connections_take_one_users_room_and_no_more() {
    let world = gateway("crowd");
    let mut before = Line::open(&world);
    let mut crowd = python(
        &world,
        "held = [connect() for _ in range(10000)]\nprint('held', flush=True)\ntime.sleep(60)\n",
    );
    eventually("they all called", || {
        assert!(crowd.ended().is_none(), "{}", crowd.output());
        crowd.output().contains("held").then_some(())
    });
    assert_eq!(before.call(VERSION, "{}").unwrap().code, 200);
    assert_eq!(Line::open(&world).call(VERSION, "{}").unwrap().code, 200);
    let stranger = post(&world, NOBODY, "System/GetVersion", "{}", &[]);
    assert!(stranger.code == 200 || stranger.code == 429, "{stranger:?}");
    assert!(resident(&world) < MEMORY, "{} KiB", resident(&world));
    crowd.kill();
}

#[test]
fn guessing_tokens_is_slow_and_stops_nobody_else() {
    let world = gateway("guess");
    let mut line = Line::open(&world);
    let mut codes = std::collections::BTreeMap::<u16, u32>::new();
    for number in 0..3000 {
        let headers = format!("authorization: Bearer pm_{number}\r\ncontent-type: application/json\r\n");
        let answer = line.ask("POST", VERSION, &headers, b"{}").unwrap();
        *codes.entry(answer.code).or_default() += 1;
    }
    assert_eq!(codes.keys().copied().collect::<Vec<_>>(), [401, 429], "{codes:?}");
    assert!(codes[&401] <= 32, "{codes:?}");
    // the same user without a token, and another one
    assert_eq!(line.call(VERSION, "{}").unwrap().code, 200);
    assert_eq!(post(&world, NOBODY, "System/GetVersion", "{}", &[]).code, 200);
    let log = world.output(Service::ApiGateway);
    assert_eq!(
        log.matches("wrong tokens, again and again").count(),
        1,
        "said once"
    );
    assert!(resident(&world) < MEMORY, "{} KiB", resident(&world));
}

#[test]
fn who_is_gone_before_he_is_answered_gets_nothing_done() {
    let world = gateway("gone");
    let mut gone = python(
        &world,
        "body = b'{\"name\": \"stolen\", \"scope\": \"SCOPE_ADMIN\"}'\n\
         request = (b'POST /portmaster.api.v1.Tokens/Create HTTP/1.1\\r\\nhost: 127.0.0.1:817\\r\\n'\n\
         \x20   b'content-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n' % len(body)) + body\n\
         for _ in range(100):\n\
         \x20   if os.fork() == 0:\n\
         \x20       one = connect()\n\
         \x20       one.sendall(request)\n\
         \x20       os._exit(0)\n\
         \x20   os.wait()\n\
         print('gone', flush=True)\n",
    );
    let _ = gone.wait();
    assert!(gone.output().contains("gone"), "{}", gone.output());
    assert_eq!(call(&world, "Tokens/List", "{}").json(), serde_json::json!({}));
    assert_eq!(call(&world, "System/GetVersion", "{}").code, 200);

    // from another network namespace there is nobody: neither at this host's address nor at its own
    let elsewhere = |address: std::net::SocketAddr| {
        world
            .internet
            .enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(2)))
    };
    for address in [
        (world.link.a.v4, 817).into(),
        "127.0.0.1:817".parse().unwrap(),
        "[::1]:817".parse().unwrap(),
    ] {
        assert!(elsewhere(address).is_err(), "{address}");
    }
}
