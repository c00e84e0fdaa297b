//! What bad input, bad company and a bad host get.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
    time::Duration,
};

use integration::{PATIENCE, Running, Service, World, eventually};
use proto::common::v1::GetStateRequest;
use proto::interceptor::v1::{WatchEventsRequest, interceptor_client::InterceptorClient};

const AT_ONCE: Duration = Duration::from_secs(3);

/// Sends SYNs from ever new ports as fast as it can; nobody answers, so nothing is ever established. Argument: address.
const SYN_FLOOD: &str = "
import errno, itertools, socket, sys
print('ready', flush=True)
open_ones = []
for port in itertools.cycle(range(1, 65000)):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    one.setblocking(False)
    try:
        one.connect((sys.argv[1], port))
    except OSError as error:
        if error.errno != errno.EINPROGRESS: pass
    open_ones.append(one)
    if len(open_ones) > 4000:
        open_ones.pop(0).close()
";

/// Sends IP packets of random protocols and random content. Arguments: address, count.
const GARBAGE: &str = "
import os, random, socket, sys
random.seed(17)
for number in range(int(sys.argv[2])):
    protocol = random.choice([1, 2, 6, 6, 17, 17, 33, 47, 50, 58, 132, 136, 253])
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        raw.sendto(os.urandom(random.choice([0, 1, 4, 8, 19, 20, 40, 1200])), (sys.argv[1], 0))
        raw.close()
    except OSError:
        pass
";

#[test]
fn a_flood_of_syns_from_one_process_keeps_nobody_else_from_being_decided() {
    flood_beside_others(&Command::new("python3"));
}

#[test]
fn a_flood_of_syns_from_another_user_keeps_nobody_else_from_being_decided() {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--pdeathsig",
        "KILL",
        "/usr/bin/python3",
    ]);
    flood_beside_others(&command);
}

/// Of the interceptor; 0 while it does not answer.
fn counter(world: &World, name: &str) -> u64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let socket = world.socket(Service::Interceptor);
    let state = runtime.block_on(async {
        let mut client = InterceptorClient::new(integration::events::channel(&socket));
        client.get_state(GetStateRequest {}).await
    });
    state.map_or(0, |state| {
        state.into_inner().counters.get(name).copied().unwrap_or(0)
    })
}

/// `python` is how the flood's interpreter is started.
fn flood_beside_others(python: &Command) {
    let world = World::start("flood");
    let app = world.app("other");
    let server = world.internet.echo(world.internet_addresses()[0], 7);
    let mut command = world.host.command(python.get_program());
    command.args(python.get_args());
    command
        .args(["-c", SYN_FLOOD, "198.18.99.1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let flood = Running::start("flood", command);
    let resident = |service| {
        let status = fs::read_to_string(format!(
            "/proc/{}/status",
            world.service(service).pid().as_raw_nonzero()
        ))
        .unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    };
    eventually("the flood is on", || {
        (counter(&world, "packets") > 20_000).then_some(())
    });
    // tens of thousands of SYNs a second share this machine's processors with everybody: some of the others' are lost as well,
    // and their retransmissions come through
    for _ in 0..5 {
        eventually("somebody else is decided", || {
            app.connect(&world, server).connected.then_some(())
        });
    }
    assert!(
        counter(&world, "packets_overload") > 0,
        "what is dropped is counted"
    );
    for service in Service::ALL {
        let mebibytes = resident(service);
        assert!(mebibytes < 400, "{} grew to {mebibytes} MiB", service.name());
    }
    flood.kill();
    eventually("the others are decided at once again", || {
        let attempt = app.connect(&world, server);
        (attempt.connected && attempt.took < Duration::from_secs(1)).then_some(())
    });
}

#[test]
fn packets_that_make_no_sense_change_nothing() {
    let world = World::start("garbage");
    let app = world.app("other");
    let server = world.internet.echo(world.internet_addresses()[0], 7);
    let both = [(&world.host, world.link.b.v4), (&world.internet, world.link.a.v4)];
    for (from, to) in both {
        let mut command = from.command("/usr/bin/python3");
        assert!(
            command
                .args(["-c", GARBAGE, &to.to_string(), "2000"])
                .status()
                .unwrap()
                .success()
        );
    }
    let mut interceptor = Command::new("kill");
    interceptor.args([
        "-0",
        &world
            .service(Service::Interceptor)
            .pid()
            .as_raw_nonzero()
            .to_string(),
    ]);
    assert!(interceptor.status().unwrap().success(), "the interceptor lives");
    let attempt = app.connect(&world, server);
    assert!(attempt.connected && attempt.took < AT_ONCE, "{attempt:?}");
}

#[test]
fn a_subscriber_that_never_reads_costs_nobody_else_anything() {
    let mut world = World::start("slow");
    let app = world.app("other");
    let server = world.internet.echo(world.internet_addresses()[0], 7);
    // One on gRPC that opens the stream and does not read, one on the bus that is stopped.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let socket = world.socket(Service::Interceptor);
    let _unread = runtime.block_on(async {
        let mut client = InterceptorClient::new(integration::events::channel(&socket));
        client
            .watch_events(WatchEventsRequest {
                include_live: false,
                resume_after: None,
            })
            .await
            .unwrap()
    });
    let address = world.bus().address();
    let mut monitor = Command::new("dbus-monitor");
    monitor
        .args(["--address", &address, "type=signal"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let monitor = Running::start("dbus-monitor", monitor);
    std::thread::sleep(Duration::from_millis(300));
    monitor.signal(rustix::process::Signal::STOP);

    let events = world.events();
    let connect = || {
        for _ in 0..2000 {
            TcpStream::connect_timeout(&server, PATIENCE).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| world.host.enter(connect));
        }
    });
    eventually("a subscriber that reads gets all of them", || {
        let ours = events.all().iter().filter(|event| event.kind == 1).count();
        (ours + usize::try_from(events.dropped()).unwrap() >= 8000).then_some(())
    });
    assert_eq!(events.dropped(), 0);
    let attempt = app.connect(&world, server);
    assert!(attempt.connected && attempt.took < AT_ONCE, "{attempt:?}");
    monitor.signal(rustix::process::Signal::CONT);
}

/// Runs a service that is expected to end by itself, and returns what it printed.
fn fails(mut command: Command) -> String {
    let output = command.env_remove("NOTIFY_SOCKET").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "it went on: {said}");
    said
}

#[test]
fn started_twice_the_second_says_who_is_there() {
    let world = World::start("twice");
    for service in Service::ALL {
        let said = fails(world.service_command(service));
        let socket = world.socket(service);
        assert!(
            said.contains("already running") && said.contains(&socket.display().to_string()),
            "{said}"
        );
    }
    // With folders of its own it does not meet the first one's socket, but the queue.
    let other = tempfile::tempdir().unwrap();
    let mut command = world.service_command(Service::Interceptor);
    command
        .arg("--runtime-dir")
        .arg(other.path())
        .arg("--state-dir")
        .arg(other.path());
    let said = fails(command);
    let pid = world
        .service(Service::Interceptor)
        .pid()
        .as_raw_nonzero()
        .to_string();
    assert!(said.contains("17040") && said.contains(&pid), "{said}");
}

#[test]
fn without_a_capability_the_service_says_which() {
    let world = World::builder("caps").without_services().start();
    let mut command = world.host.command("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]);
    command
        .arg(integration::binary("portmaster-interceptor"))
        .arg("--root")
        .arg(world.root());
    let said = fails(command);
    assert!(said.contains("CAP_NET_ADMIN"), "{said}");
}

#[test]
fn on_a_full_disk_the_policy_still_reaches_the_packets() {
    let mut world = World::builder("full").without_services().start();
    world.start_service(Service::Resolver);
    for service in [Service::Policy, Service::Interceptor] {
        // In a mount namespace of its own the service's state folder is a disk without room.
        let state = world.state_dir(service);
        fs::create_dir_all(&state).unwrap();
        let script =
            r#"mount -t tmpfs -o size=4k tmpfs "$0"; head -c 4096 /dev/zero >"$0/full" || true; exec "$@""#;
        let plain = world.service_command(service);
        let mut command = world.command("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", script])
            .arg(&state);
        command
            .arg(integration::binary(&service.program()))
            .arg("--root")
            .arg(world.root());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        world.start_as(service, command);
    }
    let (app, denied) = (world.app("app"), world.app("denied"));
    let server = world.internet.echo(world.internet_addresses()[0], 7);
    world.profile("denied", &denied.profile("block", ""));
    eventually("the profile is in force", || {
        (!denied.connect(&world, server).connected).then_some(())
    });
    assert!(app.connect(&world, server).connected);
}

#[test]
fn sockets_are_not_for_everybody() {
    let world = World::start("sockets");
    for service in Service::ALL {
        let mode = fs::metadata(world.socket(service)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o660, "{}", service.name());
    }
    // A user who is not in the group, where the folder would let him through, is refused by his credentials.
    let mut command = Command::new("setpriv");
    let socket = world.socket(Service::Interceptor);
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "nc",
            "-z",
            "-U",
        ])
        .arg(socket);
    assert!(!command.status().unwrap().success());
}

#[test]
fn a_neighbour_cannot_reach_the_host_by_a_burst_of_connections() {
    let world = World::start("burst-in");
    let target = SocketAddr::new(world.link.a.v4.into(), 2222);
    let _server = world.host.echo(world.link.a.v4, 2222);
    let attempts = 50;
    let through = world.internet.enter(|| {
        (0..attempts)
            .filter(|_| TcpStream::connect_timeout(&target, Duration::from_millis(20)).is_ok())
            .count()
    });
    assert_eq!(through, 0);
}
