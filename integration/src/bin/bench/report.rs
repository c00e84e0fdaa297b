//! The tables.

use std::fs;

use crate::{
    figures::{Figure, services},
    rounds::Results,
    subject::Subject,
};

/// Prints figures, then how they compare with what the project aims at. Markdown.
pub(super) fn print(results: &Results) {
    println!("{}\n", machine());
    println!("| | {} |", Subject::ALL.map(Subject::name).join(" | "));
    println!("|---|{}", "---:|".repeat(Subject::ALL.len()));
    for figure in Figure::ALL {
        let cells = Subject::ALL.map(|subject| get(results, subject, figure).map_or_else(String::new, shown));
        println!("| {} | {} |", figure.text(), cells.join(" | "));
    }
    println!("\nPortmaster is {} together.\n", services());
    println!("| aim | measured | |\n|---|---:|---|");
    for aim in aims(results) {
        let (measured, met) = match aim.measured {
            Some(measured) => (
                shown(measured),
                if (aim.met)(measured) { "met" } else { "MISSED" },
            ),
            None => ("–".to_owned(), "not measured"),
        };
        println!("| {} | {measured} | {met} |", aim.text);
    }
}

struct Aim {
    text: &'static str,
    measured: Option<f64>,
    met: fn(f64) -> bool,
}

fn aims(results: &Results) -> Vec<Aim> {
    use Figure as F;
    use Subject::{AcceptAll, OpenSnitch, Portmaster};
    let own = |figure| get(results, Portmaster, figure);
    let ratio = |figure, other| Some(own(figure)? / get(results, other, figure)?);
    let within = |a: Figure, b: Figure| Some(own(a)? / own(b)?);
    let aim = |text, measured, met| Aim { text, measured, met };
    vec![
        aim(
            "median connect at most 3× bare",
            ratio(F::Median, AcceptAll),
            |it| it <= 3.0,
        ),
        aim(
            "median connect at most 1/4 of OpenSnitch's",
            ratio(F::Median, OpenSnitch),
            |it| it <= 0.25,
        ),
        aim(
            "99th percentile under 10× the median",
            within(F::P99, F::Median),
            |it| it < 10.0,
        ),
        aim(
            "parallel: at least 5× OpenSnitch's connections per second",
            ratio(F::PerSecond, OpenSnitch),
            |it| it >= 5.0,
        ),
        aim("parallel: none lost", own(F::Lost), |it| it == 0.0),
        aim(
            "short-lived: every one attributed, %",
            own(F::ShortAttributed),
            |it| it == 100.0,
        ),
        aim(
            "short-lived: median at most 1/3 of OpenSnitch's",
            ratio(F::ShortMedian, OpenSnitch),
            |it| it <= 1.0 / 3.0,
        ),
        aim("bulk at least 0.98× bare", ratio(F::Bulk, AcceptAll), |it| {
            it >= 0.98
        }),
        aim("bulk: no processor time of ours, %", own(F::BulkCpu), |it| {
            it < 0.5
        }),
        aim("burst: all delivered, %", own(F::BurstArrived), |it| it == 100.0),
        aim(
            "5,000 open: at most 1.2× of few",
            within(F::ManyOpenMedian, F::Median),
            |it| it <= 1.2,
        ),
        aim("memory under 60 MiB", own(F::Memory), |it| it < 60.0),
        aim("idle processor time under 0.5 %", own(F::IdleCpu), |it| it < 0.5),
    ]
}

fn get(results: &Results, subject: Subject, figure: Figure) -> Option<f64> {
    results.get(&subject)?.get(&figure).copied()
}

fn shown(value: f64) -> String {
    if value >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name);
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Linux {}, {processors} processors ({}).",
        kernel.trim(),
        model.unwrap_or("model unknown")
    )
}
