//! Measures lists of names: `cargo run --release -p dns-core --example lists [NAMES]`; a million names without an argument.
//!
//! Prints how long a hosts file of so many names takes to read, what stays in memory and what it took meanwhile, and what
//! a look-up costs. The file is in memory beforehand and counted out of the figures.
#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::{fmt::Write as _, hint::black_box, time::Instant};

use dns_core::{
    Name,
    lists::{Builder, Covers, Lists, Reader},
};

/// As the loader reads a file.
const PIECE: usize = 1 << 16;
/// Names that are looked up, again and again in another order than they were added in.
const ASKED: usize = 1 << 16;
const ROUNDS: usize = 32;

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000);
    let mut file = String::with_capacity(count * 40);
    for number in 0..count {
        let _ = writeln!(file, "0.0.0.0 {}", listed(number));
    }
    let before = memory();

    let start = Instant::now();
    let mut builder = Builder::new([0x5c; 16]);
    let begun = builder.begin("ads".into(), vec!["ads".into()]);
    debug_assert!(begun.is_ok());
    let mut reader = Reader::new(Covers::Name);
    for piece in file.as_bytes().chunks(PIECE) {
        reader.feed(piece, |name, covers, says| builder.add(name, covers, says));
    }
    let report = reader.finish(|name, covers, says| builder.add(name, covers, says));
    let lists = builder.finish();
    let took = start.elapsed();
    let after = memory();

    let names = lists.lists().first().map_or(0, |list| list.names);
    println!("names             {names} of {} lines", report.entries);
    println!("file              {:.1} MiB", mebi(file.len()));
    println!("read and built in {:.3} s", took.as_secs_f64());
    println!("table             {:.1} MiB", mebi(lists.octets()));
    println!(
        "resident, more    {:.1} MiB",
        mebi(after.resident.saturating_sub(before.resident))
    );
    println!(
        "at its peak, more {:.1} MiB",
        mebi(after.peak.saturating_sub(before.peak))
    );
    let step = (count / ASKED).max(1);
    ask("hit", &lists, (0..count).step_by(step).map(listed));
    ask(
        "miss",
        &lists,
        (0..count)
            .step_by(step)
            .map(|number| format!("www.shop{number}.example.org")),
    );
}

/// As long as names of public lists are: some 25 characters, three to four labels.
fn listed(number: usize) -> String {
    format!("ads{}.track{}.example{}.com", number % 97, number, number % 1009)
}

fn ask(what: &str, lists: &Lists, names: impl Iterator<Item = String>) {
    let mut names: Vec<Name> = names.filter_map(|name| name.parse().ok()).collect();
    // far apart in memory, as queries come
    names.sort_by_key(|name| {
        name.as_wire().iter().fold(7_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add((*byte).into())
        })
    });
    let mut found = 0_u64;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for name in &names {
            lists.find(black_box(name), |_| found += 1);
        }
    }
    let each = start.elapsed().as_nanos() / (ROUNDS * names.len().max(1)) as u128;
    println!(
        "{what:<17} {each} ns a look-up, {found} found of {}",
        ROUNDS * names.len()
    );
}

struct Memory {
    resident: usize,
    peak: usize,
}

/// Of this process, in octets (proc(5)).
fn memory() -> Memory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibi: usize = line.split_whitespace().next()?.parse().ok()?;
        Some(kibi * 1024)
    };
    Memory {
        resident: of("VmRSS:").unwrap_or(0),
        peak: of("VmHWM:").unwrap_or(0),
    }
}

fn mebi(octets: usize) -> f64 {
    octets as f64 / f64::from(1 << 20)
}
