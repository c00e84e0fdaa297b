//! `make bench`: what a connection costs under each firewall, side by side, in one run.
//!
//! Each subject gets a fresh pair of namespaces, 300 other processes with 50 descriptors each around it, and the same
//! load. Rounds are interleaved, so that a machine that drifts drifts for all. Nothing is judged: ratios are printed next to
//! what the project aims at.
#![expect(clippy::print_stdout, reason = "a table is what it is for")]
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made ends the run, and says at which line"
)]

mod accept_all;
mod api;
mod arena;
mod collector;
mod dns;
mod figures;
mod gate17;
mod load;
mod opensnitch;
mod processes;
mod report;
mod rounds;
mod servers;
mod subject;
mod tables;

use std::process::ExitCode;

use subject::Subject;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.split_first() {
        // Programs that the benchmark starts from itself, in a namespace.
        Some((&"accept-all", [])) => accept_all::run(),
        Some((&"load", ["tunnel", rest @ ..])) => gate17::load(rest),
        Some((&"load", ["api", rest @ ..])) => api::client(rest),
        Some((&"load", ["names", rest @ ..])) => dns::load(rest),
        Some((&"load", rest)) => load::run(rest),
        // What people start.
        _ => return bench(&words),
    }
    ExitCode::SUCCESS
}

/// `bench [--rounds N] [api | dns [SERVER…] | gate17 [PATH…] | SUBJECT…]`: everything, unless a part is named, or firewalls and paths by
/// their first letters.
fn bench(words: &[&str]) -> ExitCode {
    let (rounds, named) = match words {
        ["--rounds", rounds, named @ ..] => (rounds.parse(), named),
        named => (Ok(3), named),
    };
    let Ok(rounds) = rounds else { return usage() };
    match named {
        ["api"] => api::run(rounds),
        ["dns", servers @ ..] => dns::run(rounds, servers),
        ["gate17", paths @ ..] => {
            let Some(paths) = gate17::named(paths) else {
                return usage();
            };
            gate17::run(rounds, &paths);
        }
        named => {
            let is_named = |subject: &Subject| {
                let name = subject.name().to_lowercase();
                named.is_empty() || named.iter().any(|word| name.starts_with(&word.to_lowercase()))
            };
            let subjects: Vec<_> = Subject::ALL.into_iter().filter(is_named).collect();
            if subjects.is_empty() {
                return usage();
            }
            report::print(&rounds::run(rounds, &subjects));
            if named.is_empty() {
                dns::run(rounds, &[]);
                gate17::run(rounds, &gate17::Path::ALL);
                api::run(rounds);
            }
        }
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: bench [--rounds N] [api | dns [SERVER…] | gate17 [direct | one | three | tor | shadowsocks | tls-one | tls-three]… | \
         [no | bare | portmaster | exporting | sampled | opensnitch]…]"
    );
    ExitCode::from(64)
}
