//! `bench api`: what the gateway costs while twenty clients watch five thousand events of connections a second, and how long a
//! call takes.

mod clients;

use std::{thread, time::Duration};

use integration::{Service, World};

use crate::{
    arena::{own, started},
    processes::{processor_seconds, resident_mib},
    servers::{self, Servers},
    tables::{self, Aim, median},
};

/// `bench load api …`
pub(super) use clients::load as client;

const CLIENTS: &str = "20";
/// Connections a second; each is told when it is decided, and when it ends: somewhat more than five thousand events.
const RATE: &str = "2600";
const SECONDS: u32 = 8;
/// Events a second, once as much ends as begins: all but what comes beside the second's edges.
const STEADY: f64 = 2.0 * 2600.0 * 0.99;
/// The kernel looks for what ended in rounds, and the first ones are long.
const WARM_UP: u32 = 40;
const SEQUENTIAL: &str = "3000";
const CALLS: &str = "2000";

/// Figures of one round, in the order in which they are printed.
const ROWS: [&str; 17] = [
    "events a second, as each client got them",
    "  lost, by all clients",
    "  missing in what they got, by its numbers",
    "processor time of the gateway meanwhile, % of one core",
    "  of the interceptor, %",
    "resident memory of the gateway after it, MiB",
    "connect while nobody watches: median, µs",
    "  while 20 clients watch: median, µs",
    "System/GetVersion: median, µs",
    "System/WhoAmI: median, µs",
    "Policy/Explain (asks the policy service): median, µs",
    "the same in JSON: median, µs",
    "events a second to 20 clients that filter, and want few fields",
    "  processor time of the gateway meanwhile, %",
    "events a second to 20 clients by server-sent events",
    "  lost, by all of them",
    "  processor time of the gateway meanwhile, %",
];

/// Measures and prints.
pub(super) fn run(rounds: usize) {
    let all: Vec<Vec<f64>> = (1..=rounds)
        .map(|round| {
            eprintln!("api: round {round} of {rounds} …");
            measure()
        })
        .collect();
    let at = |row: usize| median(all.iter().map(|figures| figures[row]).collect());
    println!("\n{}\n", tables::machine());
    let rows: Vec<_> = ROWS
        .iter()
        .enumerate()
        .map(|(row, name)| (*name, vec![at(row)]))
        .collect();
    tables::figures(&["20 clients"], &rows);
    let path = at(7).zip(at(6)).map(|(watched, alone)| watched / alone);
    tables::aims(&[
        Aim::new("at least 5,000 events a second told", at(0), |it| it >= 5000.0),
        Aim::new("none lost", at(1), |it| it == 0.0),
        Aim::new("none missing", at(2), |it| it == 0.0),
        Aim::new("gateway under 20 % of one core", at(3), |it| it < 20.0),
        Aim::new("packet path at most 1.1× with watchers", path, |it| it <= 1.1),
        Aim::new("a call's median under 1 ms", at(10), |it| it < 1000.0),
        Aim::new("under 20 % with filters and field masks", at(13), |it| it < 20.0),
        Aim::new("none lost by server-sent events", at(15), |it| it == 0.0),
    ]);
}

fn measure() -> Vec<f64> {
    let mut world = World::builder("bench-api").start();
    // a user of everything: all that is called here is root's
    world.config_file("api-gateway.toml", "calls_per_second = 1000000\n");
    world.start_service(Service::ApiGateway);
    // ends are told a second after the reset, not ten
    let sysctl = "sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1";
    world.host.sh(sysctl);
    let _servers = Servers::listen(&world.internet, world.link.b.v4.into());
    let connect = std::net::SocketAddr::new(world.link.b.v4.into(), servers::CONNECT).to_string();
    let gateway = [world.service(Service::ApiGateway).pid().as_raw_nonzero().get()];
    let interceptor = [world.service(Service::Interceptor).pid().as_raw_nonzero().get()];

    let calls = numbers(&load(&world, &["api", "calls", CALLS]));
    let alone = numbers(&load(&world, &["sequential", &connect, SEQUENTIAL]))[0] / 1000.0;
    // it is over before the packet path is measured
    let total = (3 * (SECONDS + 1) + WARM_UP).to_string();
    let (storm, _) = start(&world, &["api", "paced", &connect, RATE, &total]);
    warm_up(&world);
    let share = |before: f64, pids: &[i32]| (processor_seconds(pids) - before) / f64::from(SECONDS) * 100.0;
    let watched = |how: &str| {
        let before = (processor_seconds(&gateway), processor_seconds(&interceptor));
        let told = numbers(&load(&world, &["api", how, CLIENTS, &SECONDS.to_string()]));
        (told, share(before.0, &gateway), share(before.1, &interceptor))
    };
    let (told, cost, of_interceptor) = watched("watch");
    let memory = resident_mib(&gateway);
    thread::sleep(Duration::from_secs(1));
    let (masked, masked_cost, _) = watched("watch-some");
    thread::sleep(Duration::from_secs(1));
    let (pages, pages_cost, _) = watched("watch-sse");
    storm.kill();
    thread::sleep(Duration::from_secs(6));
    let (_watching, _) = start(&world, &["api", "keep-watching", CLIENTS]);
    let watched = numbers(&load(&world, &["sequential", &connect, SEQUENTIAL]))[0] / 1000.0;
    [
        &[
            told[0],
            told[1],
            told[2],
            cost,
            of_interceptor,
            memory,
            alone,
            watched,
        ][..],
        &calls,
        &[masked[0], masked_cost, pages[0], pages[1], pages_cost],
    ]
    .concat()
}

/// Until as many connections end as begin. What a second brings then is what the load makes, and not what the kernel has left.
fn warm_up(world: &World) {
    let mut told = Vec::new();
    while told.len() < WARM_UP as usize {
        let second = numbers(&load(world, &["api", "watch", "1", "1"]))[0];
        told.push(second);
        if second >= STEADY {
            break;
        }
    }
    eprintln!("api: events a second, until it was steady: {told:.0?}");
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect()
}

fn load(world: &World, words: &[&str]) -> String {
    let mut command = world.host.command(own());
    let output = command.arg("load").args(words).output().expect("start a load");
    assert!(
        output.status.success(),
        "load {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("a load prints text")
}

fn start(world: &World, words: &[&str]) -> (integration::Running, String) {
    let mut command = world.host.command(own());
    command
        .arg("load")
        .args(words)
        .stdout(std::process::Stdio::piped());
    started(command)
}
