//! What an answer costs: CPU time of this thread, among 300 other processes with 50 descriptors each.
//!
//! `cargo run --release -p process-resolver --example measure`. Sockets are connected on loopback and send nothing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made ends, and a table is what it is for"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, UdpSocket},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use daemon::status::Status;
use process_resolver::ladder::{Ladder, Quick, SocketLookup};
use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;
use verdict::{Direction, Endpoint, Flow, Protocol};

const NEIGHBOURS: usize = 300;
const DESCRIPTORS: usize = 50;
/// Processes of each kind that begin before everybody else, and open their first socket at the end.
const OLD: usize = 20;
const REMOTE: &str = "127.0.0.1:9";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("client") => client(words.get(1).unwrap().parse().unwrap()),
        _ => measure(),
    }
}

/// Opens `descriptors`; then one more socket for each line that it gets, and says its port. Keeps all.
fn client(descriptors: usize) {
    let _pairs: Vec<_> = (0..descriptors / 2)
        .map(|_| UnixStream::pair().unwrap())
        .collect();
    let mut kept = Vec::new();
    for _ in std::io::stdin().lines() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(REMOTE).unwrap();
        println!("{}", socket.local_addr().unwrap().port());
        kept.push(socket);
    }
}

struct Client {
    uid: u32,
    child: Child,
    mouth: ChildStdin,
    ear: BufReader<ChildStdout>,
}

impl Client {
    fn start(descriptors: usize) -> Self {
        Self::of_user(0, descriptors)
    }

    /// The executable must be readable for that user.
    fn of_user(uid: u32, descriptors: usize) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.uid(uid);
        command.args(["client", &descriptors.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            uid,
            mouth: child.stdin.take().unwrap(),
            ear: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// The flow of a new socket.
    fn open(&mut self) -> (Flow, u32) {
        self.mouth.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.ear.read_line(&mut line).unwrap();
        let remote: SocketAddr = REMOTE.parse().unwrap();
        let flow = Flow {
            direction: Direction::Outgoing,
            protocol: Protocol::UDP,
            local: Endpoint::new(remote.ip(), line.trim().parse().unwrap()),
            remote: Endpoint::new(remote.ip(), remote.port()),
        };
        (flow, self.uid)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A control group of its own for one process; removed at the end.
struct Group {
    folder: PathBuf,
    client: Option<Client>,
}

impl Group {
    fn start(number: usize) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        let tree = line.split(' ').nth(4).unwrap();
        let folder = PathBuf::from(format!("{tree}/pm-measure-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let client = Client::start(DESCRIPTORS);
        fs::write(folder.join("cgroup.procs"), client.child.id().to_string()).unwrap();
        Self {
            folder,
            client: Some(client),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.client = None;
        let _removed = fs::remove_dir(&self.folder);
    }
}

fn measure() {
    let status = Status::new(process_resolver::ABOUT);
    let ladder = Ladder::new(
        SocketLookup::Auto,
        4096,
        65_536,
        &status,
        CancellationToken::new(),
    );
    let mut grouped: Vec<_> = (0..OLD).map(Group::start).collect();
    let mut users: Vec<_> = (0..OLD).map(|_| Client::of_user(65_534, DESCRIPTORS)).collect();
    let mut neighbours: Vec<_> = (0..NEIGHBOURS).map(|_| Client::start(DESCRIPTORS)).collect();
    for neighbour in &mut neighbours {
        neighbour.open();
    }
    let mut known: Vec<_> = (0..24).map(|_| Client::start(6)).collect();
    let asked = |what: &str, count: usize, next: &mut dyn FnMut(usize) -> (Flow, u32)| {
        let taken = (0..count).map(|round| answer(&ladder, &next(round))).collect();
        report(what, taken);
    };

    let mut one = Client::start(6);
    let first = one.open();
    asked("a new process's first socket", 1, &mut |_| first);
    asked("the same socket again", 2000, &mut |_| first);
    asked("the next socket of a known process", 2000, &mut |_| one.open());
    let mut many = Client::start(400);
    asked("… of one with 400 descriptors", 500, &mut |_| many.open());
    asked("… of 24 known processes in turn", 2400, &mut |round| {
        known.get_mut(round % 24).unwrap().open()
    });
    let mut fresh = Vec::new();
    asked("a fresh process", 500, &mut |_| {
        fresh.clear();
        fresh.push(Client::start(0));
        fresh.first_mut().unwrap().open()
    });
    asked("one of a burst of 20 fresh processes", 400, &mut |round| {
        if round % 20 == 0 {
            fresh.clear();
            fresh.extend((0..20).map(|_| Client::start(0)));
        }
        fresh.get_mut(round % 20).unwrap().open()
    });
    asked("a process that was there before", 100, &mut |round| {
        neighbours.get_mut(round * 3).unwrap().open()
    });
    asked(
        "an old one in a cgroup of its own asks first",
        OLD,
        &mut |round| grouped.get_mut(round).unwrap().client.as_mut().unwrap().open(),
    );
    asked("an old one of another user asks first", OLD, &mut |round| {
        users.get_mut(round).unwrap().open()
    });
    println!("{:?}", status.snapshot().counters);
}

/// Microseconds.
fn answer(ladder: &Ladder, (flow, uid): &(Flow, u32)) -> f64 {
    let start = cpu();
    let answer = match ladder.quick(flow, Some(*uid)) {
        Quick::Done(answer) => answer,
        Quick::Search(search) => ladder.search(flow, Some(*uid), search),
    };
    let taken = cpu() - start;
    assert!(answer.known.is_ok(), "{flow} was not found");
    taken
}

fn cpu() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

fn report(what: &str, mut taken: Vec<f64>) {
    taken.sort_unstable_by(f64::total_cmp);
    let at = |share: usize| taken.get((taken.len() - 1) * share / 100).unwrap();
    let mean = taken.iter().sum::<f64>() / taken.len() as f64;
    println!(
        "{what:<46} p50 {:>8.1} µs   p99 {:>8.1}   mean {mean:>8.1}",
        at(50),
        at(99)
    );
}
