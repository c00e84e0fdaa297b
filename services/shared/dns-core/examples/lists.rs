//! Prints what a large list costs: `cargo run --release -p dns-core --example lists [NAMES]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement for people"
)]

use std::time::Instant;

use dns_core::{
    Name,
    lists::{Builder, Covers, Reader},
};

/// Of this process, in MiB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(1_000_000, |count| count.parse().unwrap());
    let text: String = (0..count)
        .map(|number| format!("||host{number}.zone{}.example{}^\n", number % 977, number % 31))
        .collect();
    let before = resident();
    let begun = Instant::now();
    let mut builder = Builder::new([7; 16]);
    builder.begin("many".into(), vec!["ads".into()]).unwrap();
    let mut reader = Reader::new(Covers::Name);
    for piece in text.as_bytes().chunks(1 << 16) {
        reader.feed(piece, |name, covers, says| builder.add(name, covers, says));
    }
    let report = reader.finish(|_, _, _| ());
    let lists = builder.finish();
    let loaded = begun.elapsed();
    println!(
        "{} names in {loaded:.2?}; {:.1} MiB for them, {:.1} MiB more resident",
        report.entries,
        lists.octets() as f64 / f64::from(1 << 20),
        resident() - before
    );
    let name = |text: String| -> Name { text.parse().unwrap() };
    let hits: Vec<_> = (0..100_000_usize)
        .map(|n| n * 7919 % count)
        .map(|n| name(format!("www.host{n}.zone{}.example{}", n % 977, n % 31)))
        .collect();
    let misses: Vec<_> = (0..100_000)
        .map(|n| name(format!("www.other{n}.zone{}.fine", n % 977)))
        .collect();
    for (what, names) in [("found", &hits), ("not found", &misses)] {
        let begun = Instant::now();
        let mut found = 0_u32;
        for name in names {
            lists.find(name, |_| found += 1);
        }
        println!(
            "{what}: {:.0} ns each ({found} of {})",
            begun.elapsed().as_nanos() as f64 / names.len() as f64,
            names.len()
        );
    }
}
