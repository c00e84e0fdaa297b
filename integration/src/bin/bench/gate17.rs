//! `bench gate17`: what the tunnel carries and costs, beside a direct connection, Tor, shadowsocks-rust and TLS from host to
//! host, on one set of namespaces, by turns.

mod delay;
mod idle;
#[path = "../../../tests/gate17/network.rs"]
#[expect(dead_code, reason = "tests use the rest of it")]
mod network;
mod ours;
mod peers;
mod stage;
mod tor;
mod traffic;

use std::{collections::BTreeMap, time::Duration};

pub(super) use self::stage::Path;
use self::{
    delay::Delay,
    stage::{Carried, Stage},
};
use crate::tables::{self, Aim, median};

/// Each way, of each packet that enters the internet: a round trip by three hops is seven of them.
const DISTANCE: Duration = Duration::from_millis(5);
const OPENED: usize = 200;
const OPENED_FAR: usize = 30;
const BUILT: usize = 8;
const MANY: usize = 2000;
/// What three layers through three relays reached in a bare prototype, of a direct connection: 4.6 of 20.8 Gbit/s.
const PROTOTYPE: f64 = 4.6 / 20.8;

/// `bench load tunnel …`
pub(super) fn load(words: &[&str]) {
    match words {
        ["idle", node, to, count] => idle::load(node.parse().unwrap(), to, count.parse().unwrap()),
        words => traffic::load(words),
    }
}

/// The paths that begin with these words, all without any; None where a word means none.
pub(super) fn named(words: &[&str]) -> Option<Vec<Path>> {
    if words.is_empty() {
        return Some(Path::ALL.to_vec());
    }
    let named = |word: &&str| Path::ALL.into_iter().find(|path| path.word().starts_with(word));
    words.iter().map(named).collect()
}

/// These paths, and the tables; what is not about throughput only where all are asked for.
pub(super) fn run(rounds: usize, paths: &[Path]) {
    let stage = Stage::new(paths);
    let mut results: BTreeMap<Path, Results> = BTreeMap::new();
    for round in 1..=rounds {
        for path in Path::ALL.into_iter().filter(|path| stage.has(*path)) {
            eprintln!("round {round} of {rounds}: {} …", path.name());
            let results = results.entry(path).or_default();
            results.one.extend(stage.carry(path, 1));
            results.twenty.extend(stage.carry(path, 20));
            results.opened.extend(stage.open(path, OPENED));
            let gigabits = |all: &[Carried]| all.last().map_or(0.0, |it| it.gigabits);
            let (one, twenty) = (gigabits(&results.one), gigabits(&results.twenty));
            eprintln!("  {one:.2} Gbit/s, on 20 streams {twenty:.2}");
        }
    }
    println!("{}\n", tables::machine());
    print(&results);
    if paths != Path::ALL {
        return;
    }
    eprintln!("opening over a distance …");
    let far = far(&stage);
    eprintln!("many streams …");
    let (held, took) = stage.many(Path::Three, MANY);
    eprintln!("idle circuits …");
    let memory = idle::measure(&stage.world);
    print_rest(&far, (held, took), memory);
    tables::aims(&aims(&results, &far, held, memory.1));
}

#[derive(Default)]
struct Results {
    one: Vec<Carried>,
    twenty: Vec<Carried>,
    /// First octet, its 99th percentile, round trip: µs.
    opened: Vec<[f64; 3]>,
}

impl Results {
    fn of(measured: &[Carried], what: impl Fn(&Carried) -> f64) -> Option<f64> {
        median(measured.iter().map(what).collect())
    }

    fn opened(&self, what: impl Fn(&[f64; 3]) -> f64) -> Option<f64> {
        median(self.opened.iter().map(what).collect())
    }
}

/// Three hops with distance between them, in milliseconds.
struct Far {
    trip: f64,
    /// Beyond one round trip.
    opening: f64,
    /// Round trips.
    built: Option<f64>,
}

fn far(stage: &Stage) -> Far {
    let _delay = Delay::begin(&stage.world.internet, DISTANCE);
    let [first, _, trip] = stage
        .open(Path::Three, OPENED_FAR)
        .expect("streams open over a distance");
    let mut built = Vec::new();
    for _ in 0..BUILT {
        stage.entry.close_all();
        stage.open(Path::Three, 1).expect("a circuit is built again");
        let circuits = stage.entry.circuits();
        // one that ended was built before
        let new = circuits
            .iter()
            .filter(|circuit| circuit.hops.len() == 3 && circuit.problem.is_empty() && circuit.streams > 0);
        built.extend(new.filter_map(ours::building));
    }
    Far {
        trip: trip / 1e3,
        opening: (first - 2.0 * trip) / 1e3,
        built: median(built).map(|took| took / (trip / 1e3)),
    }
}

fn print(results: &BTreeMap<Path, Results>) {
    let row = |text, of: &dyn Fn(&Results) -> Option<f64>| {
        let cells = Path::ALL.map(|path| of(results.get(&path)?));
        (text, cells.to_vec())
    };
    let rows = [
        row("one stream: Gbit/s", &|it| Results::of(&it.one, |it| it.gigabits)),
        row("20 streams, in sum: Gbit/s", &|it| {
            Results::of(&it.twenty, |it| it.gigabits)
        }),
        row("processor seconds for a gigabyte: client", &|it| {
            Results::of(&it.one, |it| it.client)
        }),
        row("  all relays", &|it| Results::of(&it.one, |it| it.relays)),
        row("round trip of an octet: median, µs", &|it| it.opened(|it| it[2])),
        row(
            "opening a stream, beyond an octet's round trip: median, µs",
            &|it| it.opened(|it| it[0] - it[2]),
        ),
        row("  99th percentile", &|it| it.opened(|it| it[1] - it[2])),
    ];
    tables::figures(&Path::ALL.map(Path::name), &rows);
}

fn print_rest(far: &Far, (held, took): (f64, f64), memory: (f64, f64)) {
    println!(
        "\nThree hops with {} ms of distance each way ({:.1} ms there and back): a stream opens in one round trip and {:.2} ms, a circuit \
         is built in {} round trips. {MANY} streams: {held} open at once, after {took:.1} s. A node: {:.1} MiB, with 1,000 idle \
         circuits {:.1} MiB.",
        DISTANCE.as_millis(),
        far.trip,
        far.opening,
        far.built
            .map_or_else(|| "–".to_owned(), |built| format!("{built:.2}")),
        memory.0,
        memory.1,
    );
}

fn aims(results: &BTreeMap<Path, Results>, far: &Far, held: f64, memory: f64) -> Vec<Aim> {
    let one = |path| Results::of(&results.get(&path)?.one, |it| it.gigabits);
    let twenty = |path| Results::of(&results.get(&path)?.twenty, |it| it.gigabits);
    let ratio = |one: Option<f64>, other: Option<f64>| Some(one? / other?);
    let to_direct = ratio(one(Path::Three), one(Path::Direct));
    vec![
        Aim::new(
            "three hops, one stream: at least 25× Tor's",
            ratio(one(Path::Three), one(Path::Tor)),
            |it| it >= 25.0,
        ),
        Aim::new(
            "three hops to direct: at least a third of the bare prototype's ratio",
            to_direct.map(|ratio| ratio / PROTOTYPE),
            |it| it >= 1.0 / 3.0,
        ),
        Aim::new(
            "three hops: 20 streams no less in sum than one",
            ratio(twenty(Path::Three), one(Path::Three)),
            |it| it >= 1.0,
        ),
        Aim::new(
            "one hop: at least shadowsocks-rust's",
            ratio(one(Path::One), one(Path::Shadowsocks)),
            |it| it >= 1.0,
        ),
        Aim::new(
            "opening a stream: one round trip of the path and at most 1 ms, ms",
            Some(far.opening),
            |it| it <= 1.0,
        ),
        Aim::new(
            "a circuit of three hops: at most three round trips of its path",
            far.built,
            |it| it <= 3.0,
        ),
        Aim::new("2,000 streams open at once", Some(held), |it| it >= 2000.0),
        Aim::new(
            "a node with 1,000 idle circuits: under 100 MiB",
            Some(memory),
            |it| it < 100.0,
        ),
    ]
}
