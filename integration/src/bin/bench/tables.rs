//! Tables in Markdown.

use std::fs;

/// Something that the project wants to be so.
pub(super) struct Aim {
    text: &'static str,
    measured: Option<f64>,
    met: fn(f64) -> bool,
}

impl Aim {
    pub(super) const fn new(text: &'static str, measured: Option<f64>, met: fn(f64) -> bool) -> Self {
        Self { text, measured, met }
    }
}

/// One line for each of `rows`: its name, then a cell for each of `columns`.
pub(super) fn figures(columns: &[&str], rows: &[(&str, Vec<Option<f64>>)]) {
    println!("| | {} |", columns.join(" | "));
    println!("|---|{}", "---:|".repeat(columns.len()));
    for (name, cells) in rows {
        let cells: Vec<String> = cells
            .iter()
            .map(|cell| cell.map_or_else(String::new, shown))
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// What was wanted, and what came of it.
pub(super) fn aims(aims: &[Aim]) {
    println!("\n| aim | measured | |\n|---|---:|---|");
    for aim in aims {
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

fn shown(value: f64) -> String {
    if value.abs() >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// Of what is there; None of nothing.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What it ran on.
pub(super) fn machine() -> String {
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
