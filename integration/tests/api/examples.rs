//! The examples do what they say, with the real mesh.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use integration::{PATIENCE, Running, Service, World, profile, world::INTERNET_V4};

use super::stage::world;

fn example(name: &str) -> PathBuf {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    fs::canonicalize(folder.join(name)).unwrap()
}

/// An example that runs, and its lines.
struct Client {
    lines: Receiver<String>,
    _running: Running,
}

impl Client {
    fn start(mut command: Command) -> Self {
        let mut child: Child = {
            use std::os::unix::process::CommandExt as _;
            command
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = tell.send(line);
            }
        });
        Self {
            lines,
            _running: Running::adopt("example", child),
        }
    }

    /// The next line with all of these in it.
    fn line(&self, parts: &[&str]) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line with {parts:?}"));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

fn server(world: &World) -> std::net::SocketAddr {
    world.internet.echo(INTERNET_V4, 8710)
}

#[test]
fn python_follows_over_a_restart_of_the_gateway() {
    let mut world = world("example-python");
    let server = server(&world);
    let generated = world.root().join("generated");
    let made = Command::new(example("python/generate"))
        .arg(&generated)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let app = world.app("talker");
    let mut watch = world.host.command("/usr/bin/python3");
    watch
        .arg(example("python/watch.py"))
        .arg(app.path())
        .env("PORTMASTER_GENERATED", &generated);
    let mut open = app.call(&world, server);
    assert!(open.echoes("hello", PATIENCE));
    let watch = Client::start(watch);
    watch.line(&["live", "allow", "/talker ->", "8710", "(default-action)"]);
    assert!(app.connect(&world, server).connected);
    watch.line(&["decided", "/talker ->"]);
    world.stop(Service::ApiGateway);
    world.start_service(Service::ApiGateway);
    assert!(app.connect(&world, server).connected);
    watch.line(&["decided", "/talker ->"]);
}

#[test]
fn curl_walks_through() {
    let world = world("example-curl");
    let mut walk = world.host.command(example("curl.sh"));
    let output = walk.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in [
        "\"ACCESS_ADMIN\"",
        "\"interceptor\"",
        "\"VERDICT_ALLOW\"",
        "portmaster.api.v1",
        "data: {",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_desktop_hears_of_connections_and_refusals() {
    let mut world = world("example-desktop");
    let server = server(&world);
    let address = world.bus().address();
    let desktop = |name: &str| {
        let mut command = world.host.command("/usr/bin/python3");
        command
            .arg(example(name))
            .env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        Client::start(command)
    };
    let (subscriber, module) = (desktop("dbus/subscriber.py"), desktop("waybar/portmaster.py"));
    subscriber.line(&["listening"]);
    module.line(&["\"text\": \"0\"", "quiet"]);
    let app = world.app("talker");
    assert!(app.connect(&world, server).connected);
    subscriber.line(&["decided", "allow", "/talker ->"]);
    world.profile("talker", &profile(app.path(), "block", ""));
    integration::eventually("it is refused", || {
        (!app.connect(&world, server).connected).then_some(())
    });
    subscriber.line(&["block", "/talker ->"]);
    module.line(&["refused", "talker to"]);
}
