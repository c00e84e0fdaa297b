//! The desktop bus: real dbus-daemon, real services, the policy that we ship.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use daemon::{bus::Publisher, status::Counter};
use integration::{PrivateBus, Running, Service, World, eventually};
use rustix::process::Signal;
use zbus::{Connection, connection::Builder};

/// Of the group `portmaster` that the test's bus sees; nobody else uses the number.
const GROUP: u32 = 61_717;
const NOBODY: &str = "65534";
const PATH: &str = "/org/portmaster/Interceptor1";
const PRIVATE: &str = "org.portmaster.Interceptor1";
const PUBLIC: &str = "org.portmaster.Service1";
/// Of each service that tells of people's doings: a signal, and a method.
const ALL_PRIVATE: [(&str, &str, &str); 3] = [
    (PRIVATE, "ConnectionsChanged", "ListConnections"),
    ("org.portmaster.Gate17Entry1", "CircuitsChanged", "Circuits"),
    ("org.portmaster.Dns1", "QueriesAnswered", "Upstreams"),
];

/// Runs `program` as a user without privileges, in the group or not.
fn as_user(member: bool, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY]);
    match member {
        true => command.arg(format!("--groups={GROUP}")),
        false => command.arg("--clear-groups"),
    };
    command.args(["--", program]);
    command
}

/// A bus for which the group exists: it sees an `/etc/group` of its own.
struct GroupBus {
    folder: tempfile::TempDir,
    _daemon: Running,
}

impl GroupBus {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        let groups = fs::read_to_string("/etc/group").unwrap();
        fs::write(at("group"), format!("{groups}\nportmaster:x:{GROUP}:\n")).unwrap();
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dbus/org.portmaster.conf");
        let config = include_str!("../../dbus/private-bus.conf")
            .replace("@SOCKET@", &at("bus.sock"))
            .replace("@POLICY@", &policy.display().to_string());
        fs::write(at("bus.conf"), config).unwrap();
        let script = format!(
            "mount --bind {} /etc/group && exec dbus-daemon --nofork --nopidfile --nosyslog --config-file={}",
            at("group"),
            at("bus.conf")
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--kill-child", "--fork", "sh", "-c", &script]);
        let daemon = Running::start_logged("dbus-daemon", command, &folder.path().join("bus.log"));
        let bus = Self {
            folder,
            _daemon: daemon,
        };
        eventually("the bus listens", || bus.file("bus.sock").exists().then_some(()));
        bus
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self) -> String {
        format!("unix:path={}", self.file("bus.sock").display())
    }

    /// Listens to all that this user is allowed to hear; gives the file that it is written to.
    fn listen(&self, name: &str, member: bool) -> (Running, PathBuf) {
        let mut command = as_user(member, "dbus-monitor");
        command.args(["--address", &self.address(), "type='signal'"]);
        let log = self.file(name);
        (Running::start_logged(name, command, &log), log)
    }

    fn call(&self, member: bool, name: &str, method: &str) -> Output {
        let mut command = as_user(member, "dbus-send");
        command.args([
            &format!("--bus={}", self.address()),
            "--print-reply",
            &format!("--dest={name}"),
            PATH,
            method,
        ]);
        command.output().unwrap()
    }
}

fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

async fn join(address: &str) -> Connection {
    Builder::address(address).build().await.unwrap()
}

#[test]
fn events_are_for_root_and_the_group_and_nobody_else() {
    let (bus, runtime) = (GroupBus::start(), runtime());
    let connection = runtime.block_on(async {
        let connection = join(&bus.address()).await;
        for (name, ..) in ALL_PRIVATE {
            connection.request_name(name).await.unwrap();
        }
        connection
    });
    let (_one, member) = bus.listen("member", true);
    let (_two, stranger) = bus.listen("stranger", false);
    let heard = |log: &Path, what: &str| fs::read_to_string(log).unwrap_or_default().contains(what);
    // each time the private ones first: who got the public one would have got the others before it
    eventually("both hear the public signal", || {
        runtime.block_on(async {
            let none: Option<&str> = None;
            for (name, signal, _) in ALL_PRIVATE {
                let private = connection.emit_signal(none, PATH, name, signal, &0_u64);
                private.await.unwrap();
            }
            let public = connection.emit_signal(none, PATH, PUBLIC, "ForEveryone", &0_u64);
            public.await.unwrap();
        });
        (heard(&member, "ForEveryone") && heard(&stranger, "ForEveryone")).then_some(())
    });
    for (name, signal, _) in ALL_PRIVATE {
        eventually("the member hears the private signals", || {
            heard(&member, signal).then_some(())
        });
        assert!(!heard(&stranger, signal), "a stranger hears {signal} of {name}");
    }
}

#[test]
fn private_methods_and_names_are_refused_to_strangers() {
    let (bus, runtime) = (GroupBus::start(), runtime());
    let _owner = runtime.block_on(async {
        let connection = join(&bus.address()).await;
        for (name, ..) in ALL_PRIVATE {
            connection.request_name(name).await.unwrap();
        }
        // answers that there is no such object: what matters is that it is asked
        let _server = connection.object_server();
        connection
    });
    let refused = |output: &Output| String::from_utf8_lossy(&output.stderr).contains("AccessDenied");
    for (name, _, method) in ALL_PRIVATE {
        let asked = format!("{name}.{method}");
        assert!(refused(&bus.call(false, name, &asked)), "{asked}");
        assert!(!refused(&bus.call(true, name, &asked)), "{asked}");
        assert!(!refused(&bus.call(false, name, "org.freedesktop.DBus.Peer.Ping")));
    }

    let mut own = as_user(true, "dbus-send");
    own.args([
        &format!("--bus={}", bus.address()),
        "--print-reply",
        "--dest=org.freedesktop.DBus",
        "/",
        "org.freedesktop.DBus.RequestName",
        "string:org.portmaster.Policy1",
        "uint32:0",
    ]);
    assert!(refused(&own.output().unwrap()), "a user takes a service's name");
}

#[test]
fn everyone_reads_the_state_and_it_comes_back_after_the_bus() {
    let mut world = World::builder("bus").without_services().start();
    open_to_all(world.root());
    world.start_service(Service::Resolver);
    let address = world.bus().address();
    let state = || {
        let mut command = as_user(false, "dbus-send");
        command.args([
            &format!("--bus={address}"),
            "--print-reply",
            "--dest=org.portmaster.ProcessResolver1",
            "/org/portmaster/ProcessResolver1",
            "org.freedesktop.DBus.Properties.Get",
            "string:org.portmaster.Service1",
            "string:State",
        ]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout)
            .contains("uint32 2")
            .then_some(())
    };
    eventually("the state is on the bus", state);
    world.bus().kill();
    assert!(state().is_none());
    world.bus().restart();
    eventually("the state is on the new bus", state);
}

#[test]
fn a_stuck_bus_costs_the_publisher_bounded_memory_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let bus = PrivateBus::start(folder.path());
    let lost = Counter::default();
    let publisher = Publisher::counting(lost.clone());
    let (address, pumping) = (bus.address(), publisher.clone());
    let pumped = std::thread::spawn(move || {
        runtime().block_on(async {
            let connection = join(&address).await;
            let emit = async |events: Vec<String>, dropped: u64| {
                let none: Option<&str> = None;
                let body = &(events, dropped);
                connection.emit_signal(none, PATH, PRIVATE, "Test", body).await
            };
            pumping.pump(emit).await
        })
    });
    publisher.push("joined".to_owned());
    eventually("the first event is sent", || publisher.is_empty().then_some(()));
    bus.daemon().unwrap().signal(Signal::STOP);
    // more than the sockets between us and the bus hold, while nobody reads them
    let event = "x".repeat(4096);
    eventually("the bus is given up", || {
        for _ in 0..2000 {
            publisher.push(event.clone());
        }
        pumped.is_finished().then_some(())
    });
    assert!(pumped.join().unwrap().is_err());
    assert!(lost.get() > 0);
}

#[test]
fn the_interfaces_are_those_that_are_committed() {
    let mut world = World::builder("introspect")
        .with(Service::Dns)
        .with(Service::Gate17Entry)
        .start();
    let (address, runtime) = (world.bus().address(), runtime());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dbus/interfaces");
    for (interface, of) in [
        ("org.portmaster.Interceptor1", "Interceptor1"),
        ("org.portmaster.Policy1", "Policy1"),
        ("org.portmaster.Service1", "Interceptor1"),
        ("org.portmaster.Service1", "Policy1"),
        ("org.portmaster.Service1", "ProcessResolver1"),
        ("org.portmaster.Dns1", "Dns1"),
        ("org.portmaster.Service1", "Dns1"),
        ("org.portmaster.Gate17Entry1", "Gate17Entry1"),
        ("org.portmaster.Service1", "Gate17Entry1"),
    ] {
        let live = eventually(&format!("{of} is on the bus"), || {
            let xml = runtime.block_on(introspect(&address, of))?;
            one_interface(&xml, interface)
        });
        let file = folder.join(format!("{interface}.xml"));
        if std::env::var_os("PORTMASTER_WRITE_INTERFACES").is_some() {
            fs::write(&file, &live).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            live,
            committed,
            "{interface} of {of} differs from {}",
            file.display()
        );
    }
}

async fn introspect(address: &str, of: &str) -> Option<String> {
    let connection = join(address).await;
    let (name, path) = (format!("org.portmaster.{of}"), format!("/org/portmaster/{of}"));
    let interface = Some("org.freedesktop.DBus.Introspectable");
    let reply = connection
        .call_method(Some(name.as_str()), path.as_str(), interface, "Introspect", &())
        .await
        .ok()?;
    reply.body().deserialize::<String>().ok()
}

/// A document with this one interface.
fn one_interface(xml: &str, name: &str) -> Option<String> {
    let start = xml.find(&format!("<interface name=\"{name}\">"))?;
    let rest = xml.get(start..)?;
    const END: &str = "</interface>";
    let interface = rest.get(..rest.find(END)? + END.len())?;
    Some(format!("<node>\n  {interface}\n</node>\n"))
}
