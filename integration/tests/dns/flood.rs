//! Programs that ask for everything at once, or that hold what others need: the others are served.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use integration::{PATIENCE, Running, Service, eventually};

use super::{
    authority::{Asked, Scripted, Sends, now},
    stage,
};

const SERVER: &str = "@127.0.0.1";

/// So many names, each once, from so many sockets, never more than so many unanswered; in a control group where one is
/// named. Prints how many answers of which code came.
const FLOOD: &str = "
import os, select, socket, struct, sys
(count, sockets, window), host = map(int, sys.argv[1:4]), os.urandom(4).hex()
if sys.argv[4]:
    with open(sys.argv[4] + '/cgroup.procs', 'w') as procs:
        procs.write(str(os.getpid()))
group, read, poll = [], {}, select.poll()
for _ in range(sockets):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('127.0.0.1', 53))
    s.setblocking(False)
    group.append(s)
    read[s.fileno()] = s
    poll.register(s, select.POLLIN)
codes, lost = {}, 0
def drain(wait):
    for s in [read[at] for at, _ in poll.poll(wait * 1000)]:
        try:
            while True:
                code = s.recv(4096)[3] & 15
                codes[code] = codes.get(code, 0) + 1
        except BlockingIOError:
            pass
tail = b'\\5flood\\7example\\0' + struct.pack('>HH', 1, 1)
sent = 0
while sent < count:
    # what is lost is not waited for
    if sent - sum(codes.values()) - lost >= window:
        before = sum(codes.values())
        drain(0.2)
        if sum(codes.values()) == before:
            lost = sent - before
    label = f'{host}-{sent}'.encode()
    q = struct.pack('>HHHHHH', sent & 0xffff, 256, 1, 0, 0, 0) + bytes([len(label)]) + label + tail
    try:
        group[sent % sockets].send(q)
        sent += 1
    except BlockingIOError:
        drain(0.01)
    if sent % 64 == 0:
        drain(0)
drain(1)
print(codes)
";

/// Names of the flood take their time, others a little.
fn slow(asked: &Asked) -> Sends {
    let after = if asked.name.ends_with("flood.example") {
        300
    } else {
        20
    };
    vec![(Duration::from_millis(after), asked.addresses(1, 300))]
}

fn resident(scripted: &Scripted) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid(scripted))).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

fn descriptors(scripted: &Scripted) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid(scripted)))
        .unwrap()
        .count()
}

/// Names that one program of one user may have at upstreams.
const PART: u64 = 128;

fn pid(scripted: &Scripted) -> i32 {
    scripted.world.service(Service::Dns).pid().as_raw_nonzero().get()
}

/// `size`: names, sockets, unanswered at once.
fn flood(scripted: &Scripted, program: &str, size: [u32; 3], group: &str) -> Running {
    let mut command = stage::python(&scripted.world, program);
    command
        .args(["-c", FLOOD])
        .args(size.map(|number| number.to_string()))
        .arg(group);
    let log = scripted.world.root().join(format!("{program}.log"));
    Running::start_logged(program, command, &log)
}

/// What the others see while a flood is on; the flood has to go on meanwhile.
fn others_are_served(scripted: &Scripted, mut flood: Running, most: u64) {
    eventually("the flood is more than its part", || {
        (scripted.counter("lookups_turned_away") > 1000).then_some(())
    });
    let dig = scripted.dig("others");
    let mut asked = 0;
    while flood.ended().is_none() || asked < 10 {
        for name in ["known.example".to_owned(), format!("new-{asked}.example")] {
            // a machine so busy that nobody can say in time whose a socket is has all such sockets share one part: such a
            // failure is tried again, as by any program's resolver
            let mut tries = (0..3).map(|_| dig.ask(&[SERVER, &name]));
            assert!(
                tries.any(|said| said.status() == "NOERROR"),
                "{name}, round {asked}"
            );
        }
        asked += 1;
        assert!(resident(scripted) < most, "{} MiB", resident(scripted));
        // its part, that of sockets which nobody can find out about in time, and the others'
        let lookups = scripted.counter("lookups_now");
        assert!(lookups <= 2 * PART + 50, "{lookups} look-ups");
    }
    // it was told that it asks too much, and got its part all the same
    let said = flood.output();
    assert!(said.contains("2: ") && said.contains("0: "), "{said}");
}

#[test]
fn a_flood_of_names_of_one_program_leaves_the_others_served() {
    let scripted = Scripted::new("dns-flood", "", slow);
    let dig = scripted.dig("others");
    assert_eq!(dig.ask(&[SERVER, "known.example"]).status(), "NOERROR");
    let before = resident(&scripted);
    others_are_served(
        &scripted,
        flood(&scripted, "floods", [100_000, 1, 600], ""),
        before + 100,
    );
    // the same from many sockets, each of which has to be found out about
    others_are_served(
        &scripted,
        flood(&scripted, "floods", [20_000, 100, 600], ""),
        before + 100,
    );
    assert!(!scripted.world.output(Service::Dns).contains("panicked"));
}

/// Goes once it is empty.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..200 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Sockets that nobody knows yet cannot be told apart by their program, but by its control group: that of a service, or of
/// an application of a desktop.
#[test]
fn a_flood_from_ever_new_sockets_is_kept_to_its_control_group() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let Some(tree) = line.and_then(|line| line.split(' ').nth(4)) else {
        eprintln!("skipped: this host has no unified control groups");
        return;
    };
    let group = Group(PathBuf::from(format!(
        "{tree}/pm-flood-{}.service",
        std::process::id()
    )));
    fs::create_dir(&group.0).unwrap();
    let scripted = Scripted::new("dns-sockets", "", slow);
    let before = resident(&scripted);
    let flood = flood(
        &scripted,
        "floods",
        [60_000, 2000, 5000],
        group.0.to_str().unwrap(),
    );
    others_are_served(&scripted, flood, before + 100);
    assert!(scripted.counter("queries_overflowed") > 0);
}

#[test]
fn clients_that_hold_connections_keep_nobody_out() {
    let scripted = Scripted::new("dns-idle", "", |asked| {
        vec![(
            Duration::ZERO,
            asked.addresses(if asked.tcp { 200 } else { 60 }, 300),
        )]
    });
    let (memory, files) = (resident(&scripted), descriptors(&scripted));
    let server = SocketAddr::from(([127, 0, 0, 1], 53));
    let query = b"\0\x1d\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03big\x07example\0\0\x01\0\x01";
    // never sends; says that much is to come; one octet at a time; never reads
    let begins: [Vec<u8>; 4] = [Vec::new(), vec![255, 255], vec![0], query.repeat(2000)];
    let mut held: Vec<TcpStream> = Vec::new();
    for round in 0..500 {
        for begin in &begins {
            let stream = scripted.world.host.enter(|| TcpStream::connect(server)).unwrap();
            stream.set_nonblocking(true).unwrap();
            let _full = (&stream).write(begin);
            held.push(stream);
        }
        if round % 50 == 0 {
            // one octet more for each that is slow
            for mut stream in held.iter().skip(2).step_by(4) {
                let _closed = stream.write(&[30]);
            }
            let said = scripted.dig("others").ask(&[SERVER, "+tcp", "some.example"]);
            assert_eq!(said.status(), "NOERROR", "round {round}: {}", said.0);
            assert!(descriptors(&scripted) < files + 200, "{}", descriptors(&scripted));
            assert!(resident(&scripted) < memory + 100, "{} MiB", resident(&scripted));
        }
    }
    assert!(scripted.counter("queries_tcp_displaced") > 0);
    // all of them are closed, without anybody else coming
    for stream in &mut held {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is closed");
        }
    }
    eventually("none is left", || {
        (scripted.counter("queries_tcp_open_now") == 0).then_some(())
    });
    assert!(descriptors(&scripted) < files + 20);
}

/// Asks, waits to be told, and asks again on the same connection.
const TWICE: &str = "
import socket
s = socket.create_connection(('127.0.0.1', 53))
def ask():
    s.sendall(bytes.fromhex('001e') + bytes.fromhex('000101000001000000000000') + b'\\4some\\7example\\0\\0\\1\\0\\1')
    assert len(s.recv(4096)) > 30
ask()
print('asked', flush=True)
input()
ask()
";

#[test]
fn connections_of_one_user_take_no_place_of_anothers() {
    let scripted = Scripted::new("dns-users", "", |asked| now(asked.addresses(1, 300)));
    let server = SocketAddr::from(([127, 0, 0, 1], 53));
    // again where the machine is so slow that the connection was idle for too long
    eventually("another user's connection stays", || {
        let mut command = scripted.world.host.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["/usr/bin/python3", "-c", TWICE]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        let held: Vec<_> = (0..200)
            .map(|_| scripted.world.host.enter(|| TcpStream::connect(server)).unwrap())
            .collect();
        eventually("it is more than one user may have", || {
            (scripted.counter("queries_tcp_displaced") >= 100).then_some(())
        });
        let _closed = child.stdin.as_mut().unwrap().write_all(b"\n");
        drop(held);
        child.wait().unwrap().success().then_some(())
    });
}
