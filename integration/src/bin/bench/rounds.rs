//! Rounds over all subjects; medians over rounds.

use std::collections::BTreeMap;

use crate::{
    figures::{Figure, Figures, measure},
    opensnitch,
    subject::Subject,
};

/// Medians of each subject's figures.
pub(super) type Results = BTreeMap<Subject, Figures>;

/// Measures each of `subjects` `rounds` times, in turn.
pub(super) fn run(rounds: usize, subjects: &[Subject]) -> Results {
    let mut all: BTreeMap<Subject, Vec<Figures>> = BTreeMap::new();
    for round in 1..=rounds {
        for subject in subjects.iter().copied() {
            if subject == Subject::OpenSnitch && opensnitch::unpacked().is_none() {
                eprintln!("OpenSnitch is left out: `make bench` unpacks it");
                continue;
            }
            eprintln!("round {round} of {rounds}: {} …", subject.name());
            all.entry(subject).or_default().push(measure(subject));
        }
    }
    all.into_iter()
        .map(|(subject, figures)| (subject, medians(&figures)))
        .collect()
}

fn medians(rounds: &[Figures]) -> Figures {
    let median = |figure: Figure| {
        let mut values: Vec<f64> = rounds
            .iter()
            .filter_map(|figures| figures.get(&figure).copied())
            .collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).map(|value| (figure, *value))
    };
    Figure::ALL.into_iter().filter_map(median).collect()
}
