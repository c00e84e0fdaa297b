//! A program that is to be tunnelled: not one packet of it leaves in the clear, whatever is missing, and it hears of it.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use integration::{App, Call, Service, World, app::ATTEMPT, eventually, profile, world::INTERNET_V4};
use interceptor::conntrack::{Conntrack, Entry};
use proto::{
    flow::v1::{Verdict, Why},
    gate17::v1::Cause,
    interceptor::v1::ConnectionEvent,
};

use verdict::{Endpoint, Mark};

use crate::stand_in::{Says, StandIn};

pub(crate) const PORT: u16 = 7000;
/// An error that comes by then is one that somebody can live with.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// With servers on the internet that would answer whatever leaks.
pub(crate) fn world(label: &str) -> World {
    let world = World::start(label);
    for address in world.internet_addresses() {
        world.internet.echo(address, PORT);
        world.internet.datagrams(address, PORT);
    }
    world
}

pub(crate) fn targets(world: &World) -> [SocketAddr; 2] {
    world
        .internet_addresses()
        .map(|address| SocketAddr::new(address, PORT))
}

/// The profile is in force.
fn wait_until_tunnelled(world: &World, app: &App, entry: &StandIn) {
    eventually("the entry is asked", || {
        app.connect(world, targets(world)[0]);
        (!entry.opens().is_empty()).then_some(())
    });
}

/// It tells of a decision for this reason.
pub(crate) fn is_of(event: &ConnectionEvent, why: Why) -> bool {
    let decision = event
        .connection
        .as_ref()
        .and_then(|connection| connection.decision.as_ref());
    decision.is_some_and(|decision| decision.why() == why)
}

/// A program that does what a script of Python says.
struct Script {
    path: std::path::PathBuf,
}

impl Script {
    fn new(world: &World, name: &str) -> Self {
        let folder = world.root().join("apps");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::copy(std::fs::canonicalize("/usr/bin/python3").unwrap(), &path).unwrap();
        Self { path }
    }

    fn profile(&self, default_action: &str) -> String {
        profile(&self.path, default_action, "")
    }

    fn command(&self, world: &World, script: &str) -> Command {
        let mut command = world.host.command(&self.path);
        command.env("PYTHONHOME", "/usr").args(["-c", script]);
        command
    }

    fn run(&self, world: &World, script: &str) -> String {
        let Output { stdout, stderr, .. } = self.command(world, script).output().unwrap();
        String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
    }
}

/// Prints `ok`, or the error and the seconds that it took to come.
fn attempt(kind: &str, to: SocketAddr, before: &str) -> String {
    let family = if to.is_ipv4() { "AF_INET" } else { "AF_INET6" };
    format!(
        "
import socket, time, errno
start = time.monotonic()
s = socket.socket(socket.{family}, socket.{kind})
s.settimeout(8)
try:
    {before}
    s.connect(('{ip}', {port}))
    for _ in range(4 if '{kind}' == 'SOCK_DGRAM' else 1):
        s.send(b'SECRET')
        if '{kind}' == 'SOCK_DGRAM': time.sleep(0.5)
    print('got', s.recv(100).decode(), flush=True)
except OSError as e:
    print('failed', errno.errorcode.get(e.errno, repr(e)), round(time.monotonic() - start, 1), flush=True)
",
        ip = to.ip(),
        port = to.port()
    )
}

fn failed_soon(said: &str) -> bool {
    let mut words = said.split_whitespace();
    words.next() == Some("failed")
        && words
            .next()
            .is_some_and(|error| error.starts_with('E') && error != "ETIMEDOUT")
        && words
            .next()
            .and_then(|seconds| seconds.parse::<f64>().ok())
            .is_some_and(|seconds| seconds < SOON.as_secs_f64())
}

#[test]
fn a_program_is_let_go_when_the_far_end_has_answered_and_hears_what_it_said() {
    let world = world("g17-open");
    let app = world.app("app");
    world.profile("app", &app.profile("tunnel", ""));
    let entry = StandIn::start(&world, Says::Opened);
    wait_until_tunnelled(&world, &app, &entry);
    let (wire, events) = (world.internet.capture(), world.events());
    for to in targets(&world) {
        let mut call = app.call(&world, to);
        assert!(call.echoes("hello", ATTEMPT), "{to}");
    }
    let event = events.wait_for("it is tunnelled, and how", |event| {
        event.connection.as_ref().is_some_and(|connection| {
            connection.hops == ["alpha", "beta", "gamma"]
                && connection
                    .decision
                    .as_ref()
                    .is_some_and(|decision| decision.verdict() == Verdict::Tunnel)
        })
    });
    let open = entry.opens().into_iter().find_map(|open| {
        let opened = open.connection?;
        (Some(opened.connection) == event.connection.as_ref().map(|connection| connection.id))
            .then_some(opened)
    });
    let open = open.expect("the entry was asked for this connection");
    assert_eq!(
        (open.profile.as_str(), open.app.unwrap().path),
        ("app", app.path().display().to_string())
    );

    for cause in [
        Cause::Refused,
        Cause::Unreachable,
        Cause::Policy,
        Cause::NoPath,
        Cause::Node,
        Cause::Limit,
    ] {
        entry.says(Says::Refused(cause));
        let attempt = app.connect(&world, targets(&world)[0]);
        assert!(
            !attempt.connected && attempt.took < SOON,
            "{cause:?}: {attempt:?}"
        );
    }
    events.wait_for("the destination refused it", |event| {
        is_of(event, Why::TunnelRefused)
    });
    let event = events.wait_for("there was no way", |event| is_of(event, Why::TunnelUnavailable));
    assert_eq!(event.connection.unwrap().tunnel_problem, "gamma: said no");
    assert_eq!(
        wire.with(&world.internet_addresses()).len(),
        0,
        "all of it stayed in the tunnel"
    );
}

#[test]
fn without_an_entry_everything_fails_at_once_and_nothing_leaves() {
    let world = world("g17-none");
    let program = Script::new(&world, "python-app");
    let wire = world.internet.capture();
    world.profile("app", &program.profile("tunnel"));
    let targets = targets(&world);
    eventually("the profile is in force", || {
        wire.clear();
        failed_soon(&program.run(&world, &attempt("SOCK_STREAM", targets[0], "pass"))).then_some(())
    });
    wire.clear();
    for to in targets {
        for kind in ["SOCK_STREAM", "SOCK_DGRAM"] {
            let said = program.run(&world, &attempt(kind, to, "pass"));
            assert!(failed_soon(&said), "{kind} {to}: {said}");
        }
    }
    assert_eq!(wire.with(&world.internet_addresses()).len(), 0);
    // for both, it is said once
    let status = world
        .command(integration::binary("portmaster"))
        .arg("status")
        .output()
        .unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("gate17-entry is not there"), "{status}");
}

#[test]
fn an_entry_that_ends_while_it_is_waited_for_is_an_error_at_once() {
    let world = world("g17-lost");
    let app = world.app("app");
    world.profile("app", &app.profile("tunnel", ""));
    let entry = StandIn::start(&world, Says::Opened);
    let to = targets(&world)[0];
    wait_until_tunnelled(&world, &app, &entry);
    let before = entry.opens().len();
    entry.says(Says::Nothing);
    let wire = world.internet.capture();
    let mut waiting = app.command(&world);
    waiting.args(["-v", "-w", "30", &to.ip().to_string(), &to.port().to_string()]);
    let mut waiting = waiting
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the entry is asked", || {
        (entry.opens().len() > before).then_some(())
    });
    let begin = Instant::now();
    drop(entry);
    assert!(!waiting.wait().unwrap().success());
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    let attempt = app.connect(&world, to);
    assert!(!attempt.connected && attempt.took < SOON, "{attempt:?}");
    // one that comes back is found
    let entry = StandIn::start(&world, Says::Opened);
    assert!(app.connect(&world, to).connected);
    assert_eq!(wire.with(&world.internet_addresses()).len(), 0);
    assert!(entry.withdrawn().is_empty());
}

#[test]
fn an_entry_that_hangs_is_not_waited_for_at_the_start() {
    let mut world = world("g17-hung");
    let app = world.app("app");
    world.profile("app", &app.profile("tunnel", ""));
    let to = targets(&world)[0];
    eventually("the profile is in force", || {
        (!app.connect(&world, to).connected).then_some(())
    });
    // as while systemd holds the socket of an entry that does not come up
    let socket = world.runtime_dir().join("gate17-entry.sock");
    let _deaf = std::os::unix::net::UnixListener::bind(socket).unwrap();
    let wire = world.internet.capture();
    world.stop(Service::Interceptor);
    world.start_service(Service::Interceptor);
    let mut waiting = app.command(&world);
    waiting.args(["-w", "30", &to.ip().to_string(), &to.port().to_string()]);
    let begin = Instant::now();
    let ended = waiting.stdin(Stdio::null()).status().unwrap();
    assert!(
        !ended.success() && begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    let attempt = app.connect(&world, to);
    assert!(!attempt.connected && attempt.took < SOON, "{attempt:?}");
    assert_eq!(wire.with(&world.internet_addresses()).len(), 0);
}

#[test]
fn a_connection_that_was_open_before_ends_and_says_no_more() {
    let world = world("g17-late");
    let app = world.app("app");
    let _entry = StandIn::start(&world, Says::Opened);
    let (wire, events) = (world.internet.capture(), world.events());
    for to in targets(&world) {
        world.profile("app", &app.profile("allow", ""));
        let mut call = eventually("it passes directly", || {
            let mut call = app.call(&world, to);
            wire.clear();
            (call.echoes("open", ATTEMPT) && !wire.with(&[to.ip()]).is_empty()).then_some(call)
        });
        events.clear();
        world.profile("app", &app.profile("tunnel", ""));
        events.wait_for("it is refused", |event| is_of(event, Why::TunnelLate));
        // the mark is taken away by another thread
        eventually("the kernel asks again", || (!passes(&world, to)).then_some(()));
        assert!(!call.echoes("SECRET", Duration::from_secs(1)), "{to}");
        eventually("the program hears of it", || {
            let _end = call.echoes("more", Duration::from_millis(10));
            has_ended(&call).then_some(())
        });
        let said = wire.seen(|packet| packet.bytes.windows(6).any(|octets| octets == b"SECRET"));
        assert_eq!(said.len(), 0, "{to}");
    }
}

#[test]
fn a_tunnelled_connection_outlives_the_interceptor_and_ends_with_its_permission() {
    let mut world = world("g17-lives");
    let app = world.app("app");
    world.profile("app", &app.profile("tunnel", ""));
    let entry = StandIn::start(&world, Says::Opened);
    wait_until_tunnelled(&world, &app, &entry);
    let wire = world.internet.capture();
    let mut calls = targets(&world).map(|to| app.call(&world, to));
    for call in &mut calls {
        assert!(call.echoes("hello", ATTEMPT));
    }
    world.kill(Service::Interceptor);
    for call in &mut calls {
        assert!(call.echoes("nobody decides", ATTEMPT));
    }
    world.start_service(Service::Interceptor);
    for call in &mut calls {
        assert!(call.echoes("decided again", ATTEMPT));
    }
    world.profile("app", &app.profile("block", ""));
    for call in &mut calls {
        eventually("it ends with its permission", || {
            (!call.echoes("still here", Duration::from_millis(300))).then_some(())
        });
    }
    assert_eq!(wire.with(&world.internet_addresses()).len(), 0);
}

#[test]
fn a_program_that_only_listens_to_its_open_connection_hears_of_the_switch_too() {
    const TALKER: u16 = 7001;
    let world = world("g17-hears");
    let app = world.app("app");
    let _entry = StandIn::start(&world, Says::Opened);
    for to in world.internet_addresses() {
        world.profile("app", &app.profile("allow", ""));
        let talker = world.internet.enter(|| TcpListener::bind((to, TALKER)).unwrap());
        let talking = thread::spawn(move || {
            while let Ok((mut stream, _)) = talker.accept() {
                while stream.write_all(b"on and on\n").is_ok() {
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let wire = world.internet.capture();
        let mut listening = eventually("it passes directly", || {
            let mut command = app.command(&world);
            command.args([to.to_string(), TALKER.to_string()]);
            let mut listening = command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(300));
            if wire.with(&[to]).len() > 5 {
                return Some(listening);
            }
            listening.kill().unwrap();
            listening.wait().unwrap();
            None
        });
        world.profile("app", &app.profile("tunnel", ""));
        eventually("it hears of it", || listening.try_wait().unwrap());
        wire.clear();
        thread::sleep(Duration::from_millis(300));
        let sent = wire.seen(|packet| packet.to == to);
        assert_eq!(sent.len(), 0, "{to}: nothing is sent there any more");
        drop(talking);
    }
}

/// The kernel has a connection to there that passes without a question.
fn passes(world: &World, to: SocketAddr) -> bool {
    world.host.enter(|| {
        let mut passes = false;
        let mut conntrack = Conntrack::open().unwrap();
        let look = |entry: Entry| {
            let there = entry.original.destination == Endpoint::new(to.ip(), to.port());
            passes |= there && entry.mark == Mark::ACCEPT.0;
        };
        conntrack.dump(look).unwrap();
        passes
    })
}

fn has_ended(call: &Call) -> bool {
    let pid = call.running().pid().as_raw_nonzero();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn a_socket_bound_to_a_device_is_refused_since_it_cannot_get_in() {
    let world = world("g17-bound");
    let program = Script::new(&world, "python-app");
    let wire = world.internet.capture();
    world.profile("app", &program.profile("tunnel"));
    let _entry = StandIn::start(&world, Says::Opened);
    let targets = targets(&world);
    eventually("the profile is in force", || {
        let said = program.run(&world, &attempt("SOCK_STREAM", targets[0], "pass"));
        wire.clear();
        said.contains("SECRET")
            .then_some(())
            .or_else(|| said.contains("failed").then_some(()))
    });
    wire.clear();
    let device = device_of(&world);
    let bind = format!("s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'{device}')");
    for to in targets {
        let said = program.run(&world, &attempt("SOCK_STREAM", to, &bind));
        assert!(failed_soon(&said), "{to}: {said}");
        // an ICMP error comes by the loopback device, where a datagram socket that is bound to another one hears nothing
        let said = program.run(&world, &attempt("SOCK_DGRAM", to, &bind));
        assert!(said.starts_with("failed"), "{to}: {said}");
    }
    let leaked = wire.seen(|packet| packet.bytes.windows(6).any(|octets| octets == b"SECRET"));
    assert_eq!(
        (leaked.len(), wire.with(&world.internet_addresses()).len()),
        (0, 0)
    );
    let redirected = wire.with(&["127.0.0.17".parse().unwrap(), "::1".parse().unwrap()]);
    assert_eq!(redirected.len(), 0);
}

fn device_of(world: &World) -> String {
    let route = world.host.sh(&format!("ip route get {INTERNET_V4}"));
    let device = route
        .split_once("dev ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    device.expect("there is a route").to_owned()
}

#[test]
fn datagrams_are_carried_and_the_entry_learns_whose_they_are() {
    let world = world("g17-udp");
    let program = Script::new(&world, "python-app");
    let (wire, events) = (world.internet.capture(), world.events());
    world.profile("app", &program.profile("tunnel"));
    let _entry = StandIn::start(&world, Says::Opened);
    for to in targets(&world) {
        let ask = || program.run(&world, &attempt("SOCK_DGRAM", to, "pass"));
        eventually("a datagram comes back by the tunnel", || {
            ask().contains("got app").then_some(())
        });
        // once more: the profile may have come into force in the middle of the attempt before
        wire.clear();
        let said = ask();
        assert!(said.contains("got app"), "{said}");
        let direct = wire.with(&[to.ip()]);
        assert!(direct.is_empty(), "{to}: {direct:?}");
    }
    events.wait_for("the nodes are told", |event| {
        let connection = event.connection.as_ref();
        connection.is_some_and(|connection| connection.hops == ["alpha", "beta", "gamma"])
    });
}

#[test]
fn datagrams_that_went_directly_go_through_the_tunnel_from_then_on() {
    // the second time, the interceptor does not remember who they are
    for (family, restarts) in [false, true].into_iter().enumerate() {
        let mut world = world("g17-turn");
        let program = Script::new(&world, "python-app");
        let _entry = StandIn::start(&world, Says::Opened);
        let wire = world.internet.capture();
        let to = targets(&world)[family];
        world.profile("app", &program.profile("allow"));
        let speak = format!(
            "
import socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM)
s.settimeout(0.1)
s.connect(('{ip}', {port}))
def ask(text):
    try:
        s.send(text)
        return s.recv(100) == b'app'
    except OSError:
        return False
while not ask(b'open'): pass
while not all([ask(b'SECRET') for _ in range(5)]): pass
",
            family = if to.is_ipv4() { "AF_INET" } else { "AF_INET6" },
            ip = to.ip(),
            port = to.port()
        );
        let mut speaking = program.command(&world, &speak).spawn().unwrap();
        eventually("it goes directly", || {
            (wire.with(&[to.ip()]).len() > 3).then_some(())
        });
        if restarts {
            world.kill(Service::Interceptor);
        }
        world.profile("app", &program.profile("tunnel"));
        if restarts {
            world.start_service(Service::Interceptor);
        }
        let ended = eventually("it is carried", || speaking.try_wait().unwrap());
        assert!(ended.success(), "{to}");
        let said = wire.seen(|packet| packet.bytes.windows(6).any(|octets| octets == b"SECRET"));
        assert_eq!(said.len(), 0, "{to}");
    }
}

#[test]
fn a_ping_is_refused_with_an_error() {
    let world = world("g17-ping");
    let program = Script::new(&world, "python-app");
    let wire = world.internet.capture();
    world.profile("app", &program.profile("tunnel"));
    let _entry = StandIn::start(&world, Says::Opened);
    for to in world.internet_addresses() {
        let (family, protocol, kind) = if to.is_ipv4() {
            ("AF_INET", 1, 8)
        } else {
            ("AF_INET6", 58, 128)
        };
        let ping = format!(
            "
import socket, errno
s = socket.socket(socket.{family}, socket.SOCK_DGRAM, {protocol})
s.settimeout(3)
s.connect(('{to}', 0))
for _ in range(3):
    try:
        s.send(bytes([{kind}, 0, 0, 0, 0, 1, 0, 1]) + b'SECRET')
        s.recv(100)
        print('answered', flush=True)
    except OSError as e:
        print('failed', errno.errorcode.get(e.errno, repr(e)), 0, flush=True)
"
        );
        world.host.sh("echo '0 100' >/proc/sys/net/ipv4/ping_group_range");
        eventually("the profile is in force", || {
            wire.clear();
            let said = program.run(&world, &ping);
            said.lines().all(failed_soon).then_some(())
        });
        assert_eq!(wire.with(&[to]).len(), 0, "{to}");
    }
}

/// What it costs that a SYN waits for its entry, beside one that is let pass: `cargo nextest run -p integration --test gate17
/// --run-ignored only --no-capture`, in a release build.
#[test]
#[ignore = "a measurement"]
fn what_the_wait_for_the_far_end_costs() {
    let world = world("g17-cost");
    let program = Script::new(&world, "python-app");
    let _entry = StandIn::start(&world, Says::Opened);
    let to = targets(&world)[0];
    let connects = format!(
        "
import socket, time
took = []
for _ in range(500):
    s = socket.socket()
    start = time.perf_counter()
    s.connect(('{}', {}))
    took.append(time.perf_counter() - start)
    s.close()
took.sort()
print('p50', round(took[250] * 1e6), 'us, p99', round(took[494] * 1e6), 'us')
",
        to.ip(),
        to.port()
    );
    for action in ["allow", "tunnel", "allow", "tunnel"] {
        world.profile("app", &program.profile(action));
        thread::sleep(Duration::from_millis(500));
        println!("{action}: {}", program.run(&world, &connects).trim());
    }
}
