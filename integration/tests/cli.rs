//! `portmaster`, the command line, beside the real services.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what fails here fails the test"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    process::{ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use integration::{Running, Service, World, binary, eventually};
use rustix::process::Signal;
use serde_json::Value;

/// `portmaster …` in the host's namespace.
fn portmaster(world: &World, words: &str) -> Command {
    let mut command = world.command(binary("portmaster"));
    command.args(words.split_whitespace()).stdin(Stdio::null());
    command
}

fn output(world: &World, words: &str) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = portmaster(world, words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A server on the internet that answers everybody with `hi` and then waits until they leave.
fn serve(world: &World, port: u16) -> [SocketAddr; 2] {
    let listen = |address: IpAddr| {
        let listener = world
            .internet
            .enter(|| TcpListener::bind((address, port)).unwrap());
        thread::spawn(move || {
            for client in listener.incoming() {
                thread::spawn(move || {
                    let Ok(mut client) = client else { return };
                    let _left = client
                        .write_all(b"hi\n")
                        .and_then(|()| client.read_to_end(&mut Vec::new()));
                });
            }
        });
        SocketAddr::new(address, port)
    };
    world.internet_addresses().map(listen)
}

/// bash holds a connection until its standard input ends.
struct Client {
    bash: Running,
    greeting: String,
}

impl Client {
    fn connect(world: &World, to: SocketAddr) -> Self {
        let script = format!(
            "exec 3<>/dev/tcp/{}/{} || exit 9; head -n1 <&3; exec sleep 600",
            to.ip(),
            to.port()
        );
        let mut command = world.host.command("bash");
        command
            .args(["-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut bash = Running::start("bash", command);
        let mut greeting = String::new();
        BufReader::new(bash.child().stdout.take().unwrap())
            .read_line(&mut greeting)
            .unwrap();
        Self { bash, greeting }
    }
}

/// `portmaster monitor --json`, its lines read on a thread.
struct Monitor {
    running: Running,
    lines: mpsc::Receiver<Value>,
    seen: Vec<Value>,
    log: std::path::PathBuf,
}

impl Monitor {
    fn start(world: &World, words: &str) -> Self {
        let log = world.root().join("monitor.stderr");
        let mut command = portmaster(world, &format!("monitor --json {words}"));
        command
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap());
        let mut running = Running::start("portmaster monitor", command);
        let out = running.child().stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || read(out, &sender));
        Self {
            running,
            lines,
            seen: Vec::new(),
            log,
        }
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("the monitor shows {what}"), || {
            self.seen.extend(self.lines.try_iter());
            self.seen.iter().find(|event| wanted(event)).cloned()
        })
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

fn read(out: ChildStdout, lines: &mpsc::Sender<Value>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        let _nobody_waits = lines.send(serde_json::from_str(&line).unwrap());
    }
}

/// The kernel keeps a closed TCP connection in mind for two minutes; here it forgets at once.
fn forget(world: &World, port: u16) {
    let mut command = world.host.command("conntrack");
    command.args(["-D", "-p", "tcp", "--dport", &port.to_string()]);
    let _none_is_an_error = command.output().unwrap();
}

fn is_to(event: &Value, to: SocketAddr) -> bool {
    event["remote"] == to.ip().to_string() && event["remote_port"] == to.port()
}

fn bash() -> String {
    std::fs::canonicalize("/bin/bash")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

/// Connects once more whenever the condition is not met yet: who subscribes misses what was before.
#[track_caller]
fn seen_by(monitor: &mut Monitor, world: &World, to: SocketAddr) -> Value {
    let mut clients = Vec::new();
    eventually("the monitor shows a new connection", || {
        clients.push(Client::connect(world, to));
        thread::sleep(std::time::Duration::from_millis(100));
        monitor.seen.extend(monitor.lines.try_iter());
        monitor.seen.iter().find(|event| is_to(event, to)).cloned()
    })
}

#[test]
fn the_monitor_shows_who_connected_where_and_why_it_may() {
    let world = World::start("cli-mon");
    for to in serve(&world, 7101) {
        let mut monitor = Monitor::start(&world, "");
        let event = seen_by(&mut monitor, &world, to);
        assert_eq!(event["kind"], "decided", "{event}");
        assert_eq!(
            (&event["direction"], &event["protocol"]),
            (&"out".into(), &"tcp".into()),
            "{event}"
        );
        assert_eq!(
            (&event["verdict"], &event["scope"]),
            (&"allow".into(), &"internet".into()),
            "{event}"
        );
        assert_eq!(event["process"]["path"], bash(), "{event}");
        assert_ne!(event["why"], "", "{event}");
        monitor.running.signal(Signal::INT);
        assert!(monitor.running.wait().success());
        assert_eq!(monitor.errors(), "");
    }
}

#[test]
fn the_monitor_shows_the_end_with_its_totals() {
    let world = World::start("cli-end");
    let [to, _] = serve(&world, 7102);
    let mut monitor = Monitor::start(&world, "--app bash --direction out");
    let id = seen_by(&mut monitor, &world, to)["id"].clone(); // its clients are gone by now
    forget(&world, 7102);
    let end = monitor.wait_for("the end", |event| event["kind"] == "ended" && event["id"] == id);
    assert!(end["sent_packets"].as_u64().unwrap() >= 2, "{end}");
    assert!(end["received_bytes"].as_u64().unwrap() > 60, "{end}");
    assert!(end["duration_us"].as_u64().unwrap() > 0, "{end}");
}

#[test]
fn the_monitor_outlives_the_interceptor() {
    let mut world = World::start("cli-out");
    let [to, _] = serve(&world, 7103);
    let mut monitor = Monitor::start(&world, "");
    let first = seen_by(&mut monitor, &world, to);
    world.kill(Service::Interceptor);
    eventually("the monitor says that it is gone", || {
        monitor.errors().contains("lost the interceptor").then_some(())
    });
    world.start_service(Service::Interceptor);
    eventually("the monitor says that it is back", || {
        monitor.errors().contains("is back").then_some(())
    });
    monitor.seen.clear();
    let second = seen_by(&mut monitor, &world, to);
    assert_ne!(first["local_port"], second["local_port"]);
    assert_eq!(monitor.errors().lines().count(), 2, "{}", monitor.errors());
}

#[test]
fn connections_are_listed_while_they_live() {
    let world = World::start("cli-live");
    let [to, _] = serve(&world, 7104);
    let client = Client::connect(&world, to);
    assert_eq!(client.greeting, "hi\n");
    let list = || {
        objects(
            &output(
                &world,
                "connections --json --direction out --remote 198.18.0.0/15",
            )
            .1,
        )
    };
    let entry = eventually("the connection is listed", || {
        list().into_iter().find(|entry| is_to(entry, to))
    });
    assert_eq!(
        (&entry["kind"], &entry["verdict"]),
        (&"live".into(), &"allow".into()),
        "{entry}"
    );
    let table = output(&world, "connections --sort app").1;
    assert!(table.starts_with("SINCE"), "{table}");
    assert!(table.contains("198.18.17.10:7104"), "{table}");
    drop(client);
    forget(&world, 7104);
    eventually("the connection is gone", || list().is_empty().then_some(()));
}

#[test]
fn explain_says_what_then_happens() {
    let world = World::builder("cli-expl")
        .profile(
            "bash",
            &format!(
                "[[match]]\npath = \"{}\"\n[[rule]]\naction = \"block\"\nremote_port = 7105\n",
                bash()
            ),
        )
        .start();
    let [to, _] = serve(&world, 7105);
    let mut monitor = Monitor::start(&world, "");
    let event = seen_by(&mut monitor, &world, to);
    let (code, out, err) = output(&world, &format!("explain --json --program /bin/bash --to {to}"));
    assert_eq!(code, Some(0), "{err}");
    let answer = objects(&out).remove(0);
    for field in ["verdict", "why", "rule", "profile", "scope"] {
        assert_eq!(answer[field], event[field], "{field}: {answer} {event}");
    }
    assert_eq!(answer["rule"], "bash#1");
    let offline = format!(
        "explain --json --program /bin/bash --to {to} --config {}",
        world.config_dir().display()
    );
    let offline = objects(&output(&world, &offline).1).remove(0);
    assert_eq!(
        (&offline["verdict"], &offline["rule"]),
        (&answer["verdict"], &answer["rule"])
    );
}

#[test]
fn explain_takes_a_running_process() {
    let world = World::start("cli-pid");
    let [to, _] = serve(&world, 7106);
    let client = Client::connect(&world, to);
    let (code, out, err) = output(
        &world,
        &format!("explain --pid {} --to {to}", client.bash.pid().as_raw_nonzero()),
    );
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("allow  by "), "{out}");
    let (code, _, err) = output(&world, &format!("explain --pid 4194999 --to {to}"));
    assert_eq!(code, Some(1));
    assert!(err.contains("process 4194999"), "{err}");
}

/// One service's part of `status --json`.
fn state_of(world: &World, service: &str) -> Value {
    let (code, text, _) = output(world, "status --json");
    let whole = objects(&text).remove(0);
    let expected = match whole["health"].as_str().unwrap() {
        "ok" => 0,
        "down" => 3,
        _ => 1,
    };
    assert_eq!(code, Some(expected), "{whole}");
    let all = whole["services"].as_array().unwrap().clone();
    all.into_iter().find(|state| state["service"] == service).unwrap()
}

/// The resolver says itself degraded where the test may not trace processes, so services are looked at one by one.
#[test]
fn status_is_healthy_then_degraded_then_down() {
    let mut world = World::start("cli-stat");
    let policy = |world: &World, health: &str| {
        eventually(&format!("policy is {health}"), || {
            Some(state_of(world, "policy")).filter(|state| state["health"] == health)
        })
    };
    let wanted = policy(&world, "ok")["policy_version"].clone();
    assert!(wanted.as_u64().unwrap() > 0);
    eventually("the interceptor decides by that policy", || {
        (state_of(&world, "interceptor")["policy_version"] == wanted).then_some(())
    });
    world.profile("broken", "[[match]]\npath = 7\n");
    let problems = policy(&world, "degraded")["problems"].clone();
    assert!(
        problems[0]["text"].as_str().unwrap().contains("broken.toml"),
        "{problems}"
    );
    assert_eq!(output(&world, "status").0, Some(1));
    world.remove_profile("broken");
    policy(&world, "ok");
    world.kill(Service::Policy);
    let (code, text, _) = output(&world, "status");
    assert_eq!(code, Some(3));
    let line = |service: &str| text.lines().find(|line| line.starts_with(service)).unwrap();
    assert!(line("policy").contains("down"), "{text}");
    assert!(line("policy").contains("nobody listens there"), "{text}");
    assert!(!line("interceptor").contains("down"), "{text}");
}
