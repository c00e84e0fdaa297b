//! `bench dns [SERVER…]`: answers of ours, with attribution and policy on and off, beside unbound, dnsmasq and hickory-dns; each on one
//! thread of the first processor, the load and the upstream (nsd) on the other, by turns, on one set of namespaces.

mod names;
mod server;
mod upstream;

use std::{collections::BTreeMap, path::Path, process::Stdio};

use integration::{World, world::INTERNET_V4};

use self::{
    names::Kind,
    server::{Server, Started, UPSTREAM},
};
use crate::{
    arena::own,
    processes::{processor_seconds, resident_mib},
    tables::{self, Aim, median},
};

const SECONDS: &str = "5";
const QUESTIONS: usize = 5000;

/// `bench load names …`
pub(super) use names::load;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    Cached,
    CachedCpu,
    Median,
    P99,
    MissMedian,
    Miss,
    MissP99,
    Memory,
    Ready,
    Load,
    List,
    Blocked,
    BlockedCpu,
    BlockedMedian,
    Wrong,
}

impl Figure {
    const ALL: [Self; 15] = [
        Self::Cached,
        Self::CachedCpu,
        Self::Median,
        Self::P99,
        Self::MissMedian,
        Self::Miss,
        Self::MissP99,
        Self::Memory,
        Self::Ready,
        Self::Load,
        Self::List,
        Self::Blocked,
        Self::BlockedCpu,
        Self::BlockedMedian,
        Self::Wrong,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Cached => "cached answers per second",
            Self::CachedCpu => "  processor time of each, µs",
            Self::Median => "cached, at most 5,000 a second: median, µs",
            Self::P99 => "  99th percentile, µs",
            Self::MissMedian => "not cached: median, µs",
            Self::Miss => "  over the upstream's own median, µs",
            Self::MissP99 => "  99th percentile, µs",
            Self::Memory => "resident memory after that, MiB",
            Self::Ready => "ready after start, s",
            Self::Load => "  the million names' part of it, s",
            Self::List => "memory for a million names, MiB",
            Self::Blocked => "blocked answers per second",
            Self::BlockedCpu => "  processor time of each, µs",
            Self::BlockedMedian => "  at most 5,000 a second: median, µs",
            Self::Wrong => "questions of dnsperf without the right answer, %",
        }
    }
}

type Figures = BTreeMap<Figure, f64>;

/// Everything, or the servers that are named by their first letters, and the tables.
pub(super) fn run(rounds: usize, named: &[&str]) {
    let lists = tempfile::Builder::new()
        .prefix("pm-lists-")
        .tempdir()
        .expect("make a folder");
    let mut all: BTreeMap<Server, Vec<Figures>> = BTreeMap::new();
    let mut upstreams = Vec::new();
    for round in 1..=rounds {
        let mut world = World::builder("bench-dns").without_services().start();
        let _nsd = upstream::start(&world);
        let upstream = format!("{INTERNET_V4}:{UPSTREAM}");
        let [direct, ..] = ask(&world, &upstream, Kind::Unique { run: 0 });
        upstreams.push(direct);
        for (run, server) in Server::ALL.into_iter().enumerate() {
            if !server.is_named(named) {
                continue;
            }
            if !server.is_there() {
                eprintln!("{} is left out: `make bench` brings it", server.name());
                continue;
            }
            eprintln!("round {round} of {rounds}: {} …", server.name());
            let figures = measure(&mut world, server, lists.path(), direct, run + 1);
            all.entry(server).or_default().push(figures);
        }
    }
    let results: BTreeMap<Server, Figures> = all
        .into_iter()
        .map(|(server, rounds)| (server, medians(&rounds)))
        .collect();
    print(&results, median(upstreams).unwrap_or_default());
}

fn medians(rounds: &[Figures]) -> Figures {
    let of = |figure: Figure| {
        let values = rounds.iter().filter_map(|it| it.get(&figure).copied()).collect();
        Some((figure, median(values)?))
    };
    Figure::ALL.into_iter().filter_map(of).collect()
}

fn measure(world: &mut World, server: Server, lists: &Path, direct: f64, run: usize) -> Figures {
    let mut figures = Figures::new();
    let address = server.address();
    let plain = server.start(world, lists, false);
    let idle = resident_mib(&plain.pids);
    // every name once, so that all are kept
    dnsperf(
        world,
        server,
        &plain,
        Kind::Cached,
        &["-n", "1", "-c", "1", "-q", "20"],
    );
    let cached = dnsperf(world, server, &plain, Kind::Cached, &FULL);
    figures.insert(Figure::Cached, cached.per_second);
    figures.insert(Figure::CachedCpu, cached.micros);
    let [median, p99, ..] = ask(world, &address, Kind::Cached);
    figures.insert(Figure::Median, median);
    figures.insert(Figure::P99, p99);
    let [median, p99, ..] = ask(world, &address, Kind::Unique { run });
    figures.insert(Figure::MissMedian, median);
    figures.insert(Figure::Miss, median - direct);
    figures.insert(Figure::MissP99, p99);
    figures.insert(Figure::Memory, resident_mib(&plain.pids));
    figures.insert(Figure::Ready, plain.ready.as_secs_f64());
    let ready = plain.ready;
    plain.stop(world);

    let listed = server.start(world, lists, true);
    figures.insert(
        Figure::Load,
        (listed.ready.as_secs_f64() - ready.as_secs_f64()).max(0.0),
    );
    figures.insert(Figure::List, resident_mib(&listed.pids) - idle);
    let blocked = dnsperf(world, server, &listed, Kind::Blocked, &FULL);
    figures.insert(Figure::Blocked, blocked.per_second);
    figures.insert(Figure::BlockedCpu, blocked.micros);
    let [median, ..] = ask(world, &address, Kind::Blocked);
    figures.insert(Figure::BlockedMedian, median);
    figures.insert(Figure::Wrong, cached.wrong.max(blocked.wrong));
    listed.stop(world);
    figures
}

/// Medians and 99th percentiles in µs, then the answers with a name and without.
fn ask(world: &World, address: &str, kind: Kind) -> [f64; 4] {
    let mut command = world.host.command("taskset");
    // on the processor of the server: what another one costs to wake is the machine's, not the server's
    command
        .args(["-c", "0"])
        .arg(own())
        .args(names::words(address, kind, QUESTIONS));
    let output = command.output().expect("start a load");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let [median, p99, found, none] = words[..] else {
        panic!("a load says {text:?} {}", String::from_utf8_lossy(&output.stderr))
    };
    [median / 1e3, p99 / 1e3, found, none]
}

struct Perf {
    per_second: f64,
    /// Of processor time, for each.
    micros: f64,
    /// Percent.
    wrong: f64,
}

const FULL: [&str; 6] = ["-l", SECONDS, "-c", "4", "-q", "200"];

fn dnsperf(world: &World, server: Server, started: &Started, kind: Kind, how: &[&str]) -> Perf {
    let file = world.root().join(format!("questions-{kind:?}"));
    names::write_questions(&file, kind);
    let port = server.port().to_string();
    let mut command = world.host.command("taskset");
    command
        .args(["-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", &port, "-d"])
        .arg(&file)
        .args(how)
        .stdin(Stdio::null());
    let before = processor_seconds(&started.pids);
    let output = command.output().expect("start dnsperf");
    let used = processor_seconds(&started.pids) - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |label: &str| -> f64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        let word = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        word.unwrap_or_else(|| panic!("dnsperf does not say {label:?}: {text}"))
    };
    let (sent, completed) = (number("Queries sent:"), number("Queries completed:"));
    let code = match (kind, server) {
        (Kind::Blocked, Server::Hickory) | (Kind::Cached | Kind::Unique { .. }, _) => "NOERROR",
        (Kind::Blocked, _) => "NXDOMAIN",
    };
    let right = text
        .split_once(&format!("{code} "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    Perf {
        per_second: number("Queries per second:"),
        micros: used / completed * 1e6,
        wrong: 100.0 * (1.0 - right.unwrap_or_default() / sent),
    }
}

fn print(results: &BTreeMap<Server, Figures>, upstream: f64) {
    println!("{}\n", tables::machine());
    let rows = Figure::ALL.map(|figure| {
        let cells = Server::ALL.map(|server| results.get(&server)?.get(&figure).copied());
        (figure.text(), cells.to_vec())
    });
    tables::figures(&Server::ALL.map(Server::name), &rows);
    println!(
        "\nThe upstream itself: {upstream:.1} µs. Portmaster's memory and processor time are of all its services."
    );
    tables::aims(&aims(results));
}

fn aims(results: &BTreeMap<Server, Figures>) -> Vec<Aim> {
    use Figure as F;
    let of = |server: Server, figure| results.get(&server)?.get(&figure).copied();
    let own = |figure| of(Server::Whole, figure);
    let ratio = |figure, other| Some(own(figure)? / of(other, figure)?);
    vec![
        Aim::new(
            "cached answers: at least unbound's",
            ratio(F::Cached, Server::Unbound),
            |it| it >= 1.0,
        ),
        Aim::new(
            "99th percentile: no worse than unbound's",
            ratio(F::P99, Server::Unbound),
            |it| it <= 1.0,
        ),
        Aim::new(
            "blocked names: at least as fast as cached ones",
            own(F::Blocked)
                .zip(own(F::Cached))
                .map(|(blocked, cached)| blocked / cached),
            |it| it >= 1.0,
        ),
        Aim::new(
            "a miss: at most 50 µs over the upstream's own time",
            own(F::Miss),
            |it| it <= 50.0,
        ),
        Aim::new(
            "a million names: at most a third of dnsmasq's memory",
            ratio(F::List, Server::Dnsmasq),
            |it| it <= 1.0 / 3.0,
        ),
        Aim::new("a million names: at most 25 MiB", own(F::List), |it| it <= 25.0),
        Aim::new("a million names: loaded in at most 1 s", own(F::Load), |it| {
            it <= 1.0
        }),
        Aim::new("all questions answered, % without", own(F::Wrong), |it| it < 0.1),
    ]
}
