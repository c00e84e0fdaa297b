//! A connection has the name that its program asked for.

use std::net::SocketAddr;

use integration::{Events, Service, profile, world::INTERNET_V4};
use proto::interceptor::v1::ConnectionEvent;

use super::stage::{self, Stage, path_of};

/// A program's own resolver.
pub(super) const RESOLV: &str = "
import socket, struct, sys

def ask(name, server='127.0.0.1'):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    q = struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0)
    q += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0' + struct.pack('>HH', 1, 1)
    s.sendto(q, (server, 53))
    a = s.recv(4096)
    if a[3] & 15 or not struct.unpack('>H', a[6:8])[0]:
        sys.exit(f'{name}: no answer')
    return socket.inet_ntoa(a[-4:])
";

/// Asks for a name and connects at once to what it was told.
fn connect(stage: &Stage, app: &str, name: &str, port: u16) -> bool {
    let script = format!("{RESOLV}\nsocket.create_connection((ask({name:?}), {port}), 5).close()\n");
    let output = stage.python(app, &script).output().unwrap();
    output.status.success()
}

pub(super) fn told(event: &ConnectionEvent, app: &str, domain: &str) -> bool {
    event.connection.as_ref().is_some_and(|connection| {
        let path = connection
            .process
            .as_ref()
            .and_then(|process| process.executable.as_ref())
            .map(|executable| executable.path.as_str());
        path.is_some_and(|path| path.ends_with(&format!("/{app}")))
            && connection.domain == domain
            && connection.flow.as_ref().is_some_and(|flow| flow.remote_port == 7)
    })
}

fn server(stage: &Stage) -> SocketAddr {
    stage.world.internet.echo(INTERNET_V4, 7)
}

fn events(stage: &Stage) -> Events {
    stage.world.events()
}

#[test]
fn a_connection_is_told_and_decided_by_the_name_that_its_program_asked_for() {
    let stage = Stage::new("dns-names", &[], "");
    let _server = server(&stage);
    let path = path_of(&stage.world, "strict");
    let rule = "[[rule]]\naction = \"allow\"\nremote = [\"fine.example\", \"127.0.0.0/8\"]\n";
    let events = events(&stage);
    assert!(connect(&stage, "free", "other.example", 7));
    events.wait_for("the name is known", |event| told(event, "free", "other.example"));
    stage.world.profile("strict", &profile(&path, "block", rule));
    integration::eventually(
        "its one name is reached at once, with nothing said on the connection",
        || connect(&stage, "strict", "fine.example", 7).then_some(()),
    );
    events.wait_for("the rule's name", |event| told(event, "strict", "fine.example"));
    assert!(!connect(&stage, "strict", "other.example", 7));
    // the same address, and no name asked for it: it is heard until it could have said one, and no word gets through
    let script = format!(
        "import socket\ns = socket.create_connection(('{INTERNET_V4}', 7), 3)\ns.sendall(b'x\\n')\nassert s.recv(1)\n"
    );
    let path = path_of(&stage.world, "direct");
    let direct = profile(&path, "allow", "").replace("[settings]\n", "[settings]\nblock_direct = true\n");
    stage.world.profile("direct", &direct);
    integration::eventually("an address that it was not told is refused", || {
        (!stage.python("direct", &script).output().unwrap().status.success()).then_some(())
    });
    assert!(
        connect(&stage, "direct", "fine.example", 7),
        "a name that it asked for is not direct"
    );
}

#[test]
fn a_name_is_known_before_its_program_can_connect_and_is_not_waited_for() {
    const NAMES: usize = 300;
    let stage = Stage::new("dns-order", &[], "");
    let _server = server(&stage);
    let events = events(&stage);
    // one address: a connection has the name that was asked for last, if that is known in time
    let script = format!(
        "{RESOLV}\nfor n in range({NAMES}):\n    socket.create_connection((ask(f'n{{n}}.fine.example'), 7), 5).close()\n"
    );
    assert!(stage.python("hasty", &script).output().unwrap().status.success());
    for number in 0..NAMES {
        let name = format!("n{number}.fine.example");
        events.wait_for(&name, |event| told(event, "hasty", &name));
    }
    integration::eventually("most of them were told without a wait", || {
        let aside = stage::counter(&stage.world, "names_told_aside");
        aside.filter(|count| *count > NAMES as u64 / 2)
    });
}

#[test]
fn names_outlive_a_restart_of_either_service() {
    let mut stage = Stage::new("dns-restart", &[], "");
    let _server = server(&stage);
    let events = events(&stage);
    let script = format!(
        "{RESOLV}\na = ask('fine.example')\nprint(a, flush=True)\ninput()\nsocket.create_connection((a, 7), 5).close()\n"
    );
    for (app, service, is_killed) in [
        ("dns-is-restarted", Service::Dns, false),
        ("interceptor-is-restarted", Service::Interceptor, false),
        ("dns-is-killed", Service::Dns, true),
        ("interceptor-is-killed", Service::Interceptor, true),
    ] {
        let mut command = stage.python(app, &script);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        assert_eq!(line.trim(), INTERNET_V4.to_string());
        if is_killed {
            stage.world.kill(service);
        } else {
            stage.world.stop(service);
        }
        stage.world.start_service(service);
        if service == Service::Interceptor {
            stage.wait_until_linked();
        }
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        assert!(child.wait().unwrap().success());
        events.wait_for("the name is known still", |event| {
            told(event, app, "fine.example")
        });
    }
}

fn line(out: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// Asks for names, and then connects to the address of the last of them for each line that it reads; says by which port.
const ASKS_AND_CONNECTS: &str = "
for name in sys.argv[1].split(','):
    address = ask(name)
print(address, flush=True)
for line in sys.stdin:
    try:
        s = socket.create_connection((address, 7), 3)
        print(s.getsockname()[1], flush=True)
        s.close()
    except OSError:
        print('refused', flush=True)
";

struct Program {
    child: std::process::Child,
    out: std::io::BufReader<std::process::ChildStdout>,
    app: &'static str,
}

impl Program {
    fn begin(stage: &Stage, app: &'static str, names: &str) -> Self {
        let mut command = stage.python(app, &format!("{RESOLV}{ASKS_AND_CONNECTS}"));
        let mut child = command
            .arg(names)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        assert_eq!(line(&mut out), INTERNET_V4.to_string());
        Self { child, out, app }
    }

    /// Connects; is shown with `newest` of its names.
    fn go(&mut self, stage: &Stage, newest: &str, what: &str) {
        let (events, app) = (stage.world.events(), self.app);
        std::io::Write::write_all(self.child.stdin.as_mut().unwrap(), b"\n").unwrap();
        let port = line(&mut self.out);
        assert_ne!(port, "refused", "{app}, {what}: one of its names is permitted");
        let port: u32 = port.parse().unwrap();
        events.wait_for(&format!("{app}, {what}: its newest name"), |event| {
            let flow = event
                .connection
                .as_ref()
                .and_then(|connection| connection.flow.as_ref());
            flow.is_some_and(|flow| flow.local_port == port) && told(event, app, newest)
        });
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Many names stand behind one address (shared hosting): all that a program was told count for rules, the newest is shown.
#[test]
fn all_names_of_an_address_count_and_the_newest_is_shown_also_after_a_restart() {
    let mut stage = Stage::new("dns-candidates", &[], "");
    let _server = server(&stage);
    let path = path_of(&stage.world, "ruled");
    let rule = "[[rule]]\naction = \"allow\"\nremote = [\"fine.example\", \"127.0.0.0/8\"]\n\
                [[rule]]\naction = \"allow\"\nremote = \"*.example\"\nremote_port = 9\n";
    stage.world.profile("ruled", &profile(&path, "block", rule));
    integration::eventually("the profile is in force", || {
        let mut command = stage.world.command(integration::binary("portmaster"));
        let command = command
            .args(["dns", "explain", "fine.invalid.net", "--app"])
            .arg(&path);
        command
            .output()
            .unwrap()
            .stdout
            .starts_with(b"block")
            .then_some(())
    });
    let names = "second.example,fine.example,other.example,www.fine.example";
    let mut programs = ["free", "ruled"].map(|app| Program::begin(&stage, app, names));
    let mut go = |stage: &Stage, what: &str| {
        for program in &mut programs {
            program.go(stage, "www.fine.example", what);
        }
    };
    go(&stage, "at first");
    for service in [Service::Interceptor, Service::Dns, Service::Interceptor] {
        stage.world.stop(service);
        stage.world.start_service(service);
        if service == Service::Interceptor {
            stage.wait_until_linked();
        }
        go(&stage, service.name());
    }
    stage.world.kill(Service::Interceptor);
    stage.world.start_service(Service::Interceptor);
    stage.wait_until_linked();
    go(&stage, "killed");
    programs.into_iter().for_each(Program::end);
}

/// The interceptor gives back what a killed DNS service had not written down, in its order; so the next interceptor has it, too.
#[test]
fn names_of_the_last_minutes_outlive_dns_that_is_killed_and_then_the_interceptor() {
    let mut stage = Stage::new("dns-given-back", &[], "");
    let _server = server(&stage);
    let mut program = Program::begin(&stage, "free", "second.example,fine.example,www.fine.example");
    program.go(&stage, "www.fine.example", "at first");
    for round in ["once", "twice"] {
        stage.world.kill(Service::Dns);
        stage.world.start_service(Service::Dns);
        integration::eventually("its names are given back", || {
            stage::counter(&stage.world, "names_given_back").filter(|count| *count >= 3)
        });
        program.go(&stage, "www.fine.example", round);
        stage.world.stop(Service::Interceptor);
        stage.world.start_service(Service::Interceptor);
        stage.wait_until_linked();
        program.go(&stage, "www.fine.example", round);
    }
    program.end();
}
