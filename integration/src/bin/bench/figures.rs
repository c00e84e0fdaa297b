//! What is measured of one subject, and how.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use integration::{Events, Service};
use proto::interceptor::v1::{ConnectionEvent, EventKind};

use crate::{
    arena::{Arena, copies},
    processes::{processor_seconds, resident_mib},
    servers,
    subject::Subject,
};

/// Figures by name, in the order in which they are printed. Microseconds, unless the name says otherwise.
pub(super) type Figures = BTreeMap<Figure, f64>;

/// See [`Figure::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    Median,
    P99,
    ManyOpenMedian,
    SameProcessMedian,
    PerSecond,
    Lost,
    Cpu,
    ShortMedian,
    ShortAttributed,
    Bulk,
    BulkCpu,
    BurstMilliseconds,
    BurstArrived,
    Memory,
    IdleCpu,
    Spans,
}

impl Figure {
    pub(super) const ALL: [Self; 16] = [
        Self::Median,
        Self::P99,
        Self::ManyOpenMedian,
        Self::SameProcessMedian,
        Self::PerSecond,
        Self::Lost,
        Self::Cpu,
        Self::ShortMedian,
        Self::ShortAttributed,
        Self::Bulk,
        Self::BulkCpu,
        Self::BurstMilliseconds,
        Self::BurstArrived,
        Self::Memory,
        Self::IdleCpu,
        Self::Spans,
    ];

    /// For people, with the unit.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Median => "new TCP connections, one after another: median, µs",
            Self::P99 => "  99th percentile, µs",
            Self::ManyOpenMedian => "  with 5,000 connections open elsewhere: median, µs",
            Self::SameProcessMedian => "  with 5,000 connections open in the same process: median, µs",
            Self::PerSecond => "32 parallel clients: connections per second",
            Self::Lost => "  of them lost, in all",
            Self::Cpu => "  processor time of the firewall's processes for each, µs",
            Self::ShortMedian => "300 short-lived processes: median, µs",
            Self::ShortAttributed => "  attributed to the right executable, %",
            Self::Bulk => "one established connection: MB/s",
            Self::BulkCpu => "  processor time of the firewall's processes meanwhile, %",
            Self::BurstMilliseconds => "burst of 8,000 first packets, sent within ms",
            Self::BurstArrived => "  of them delivered, %",
            Self::Memory => "resident memory of all processes, idle, MiB",
            Self::IdleCpu => "processor time when idle, %",
            Self::Spans => "spans that the collector got, thousands",
        }
    }
}

const SEQUENTIAL: &str = "3000";
const OPEN: &str = "5000";
const SHORT: usize = 300;
const BURST: u64 = 8000;

/// Everything about one subject, in an arena of its own.
pub(super) fn measure(subject: Subject) -> Figures {
    let mut arena = Arena::new();
    let running = subject.start(&mut arena);
    thread::sleep(Duration::from_secs(1));
    let pids = subject.pids(&arena, &running);
    let mut figures = Figures::new();
    let connect = arena.address(servers::CONNECT);

    at_rest(&pids, &mut figures);
    let words = numbers(&arena.load(&["sequential", &connect, SEQUENTIAL]));
    figures.insert(Figure::Median, words[0] / 1000.0);
    figures.insert(Figure::P99, words[1] / 1000.0);
    short_lived(subject, &arena, &connect, &mut figures);
    parallel(&arena, &connect, &pids, &mut figures);
    bulk(&arena, &pids, &mut figures);
    burst(&arena, &mut figures);
    many_open(&arena, &connect, &mut figures);
    if let Some(collector) = &arena.collector {
        figures.insert(Figure::Spans, collector.spans() as f64 / 1000.0);
    }
    figures
}

const PARALLEL_SECONDS: u32 = 3;

fn parallel(arena: &Arena, connect: &str, pids: &[i32], figures: &mut Figures) {
    let before = processor_seconds(pids);
    let words = numbers(&arena.load(&["parallel", connect, "32", &PARALLEL_SECONDS.to_string()]));
    figures.insert(Figure::PerSecond, words[0]);
    figures.insert(Figure::Lost, words[1]);
    if !pids.is_empty() {
        let made = words[0] * f64::from(PARALLEL_SECONDS);
        figures.insert(Figure::Cpu, 1e6 * (processor_seconds(pids) - before) / made);
    }
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

fn at_rest(pids: &[i32], figures: &mut Figures) {
    if pids.is_empty() {
        return;
    }
    figures.insert(Figure::Memory, resident_mib(pids));
    let (start, before) = (Instant::now(), processor_seconds(pids));
    thread::sleep(Duration::from_secs(5));
    figures.insert(Figure::IdleCpu, share(start, before, pids));
}

fn many_open(arena: &Arena, connect: &str, figures: &mut Figures) {
    let hold = arena.address(servers::HOLD);
    let (_holder, _) = arena.start(&["hold", &hold, OPEN]);
    let words = numbers(&arena.load(&["sequential", connect, SEQUENTIAL]));
    figures.insert(Figure::ManyOpenMedian, words[0] / 1000.0);
    drop(_holder);
    let words = numbers(&arena.load(&["sequential", connect, SEQUENTIAL, &hold, OPEN]));
    figures.insert(Figure::SameProcessMedian, words[0] / 1000.0);
}

/// Ten copies of one program take turns: each connection must be reported as made by the copy that made it.
fn short_lived(subject: Subject, arena: &Arena, connect: &str, figures: &mut Figures) {
    let events = subject.is_ours().then(|| arena.world.events());
    let count = SHORT.to_string();
    let programs = copies(arena.world.root(), 10);
    let mut words = vec!["short-lived", connect, &count];
    words.extend(programs.iter().map(|program| program.to_str().unwrap()));
    let printed = arena.load(&words);
    let made: Vec<Vec<&str>> = printed.lines().map(|line| line.split(' ').collect()).collect();
    let mut taken: Vec<f64> = made.iter().map(|line| line[1].parse().unwrap()).collect();
    taken.sort_unstable_by(f64::total_cmp);
    figures.insert(Figure::ShortMedian, taken[taken.len() / 2] / 1000.0);
    if let Some(events) = events {
        thread::sleep(Duration::from_secs(1));
        let right = attributed(&events, &made);
        figures.insert(Figure::ShortAttributed, 100.0 * right as f64 / made.len() as f64);
    }
}

fn attributed(events: &Events, made: &[Vec<&str>]) -> usize {
    let mut programs = BTreeMap::new();
    // ends are told late: those of earlier connections from the same port among them
    let decided = |event: &ConnectionEvent| event.kind() == EventKind::Decided;
    for event in events.all().into_iter().filter(decided) {
        let connection = event.connection.unwrap_or_default();
        let path = connection
            .process
            .and_then(|process| process.executable)
            .unwrap_or_default()
            .path;
        programs.insert(connection.flow.unwrap_or_default().local_port, path);
    }
    let right = |line: &&Vec<&str>| {
        let port = line[2].parse().unwrap();
        programs.get(&port).is_some_and(|path| path == line[0])
    };
    made.iter().filter(right).count()
}

fn bulk(arena: &Arena, pids: &[i32], figures: &mut Figures) {
    let (start, before) = (Instant::now(), processor_seconds(pids));
    let words = numbers(&arena.load(&["bulk", &arena.address(servers::SINK), "4"]));
    figures.insert(Figure::Bulk, words[0] / 1e6);
    if !pids.is_empty() {
        figures.insert(Figure::BulkCpu, share(start, before, pids));
    }
}

fn burst(arena: &Arena, figures: &mut Figures) {
    let before = arena.servers.datagrams.load(Ordering::Relaxed);
    let words = numbers(&arena.load(&["burst", &arena.address(servers::BURST), &BURST.to_string()]));
    figures.insert(Figure::BurstMilliseconds, words[0] / 1000.0);
    let arrived = arena.servers.datagrams.load(Ordering::Relaxed) - before;
    figures.insert(Figure::BurstArrived, 100.0 * arrived as f64 / BURST as f64);
}

/// Of one processor, in percent.
fn share(start: Instant, before: f64, pids: &[i32]) -> f64 {
    100.0 * (processor_seconds(pids) - before) / start.elapsed().as_secs_f64()
}

/// The services that memory and processor time are summed over.
pub(super) fn services() -> String {
    Service::ALL.map(Service::name).join(", ")
}
