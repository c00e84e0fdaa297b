//! The tables.

use crate::{
    figures::{Figure, services},
    rounds::Results,
    subject::Subject,
    tables::{self, Aim},
};

/// Prints figures, then how they compare with what the project aims at. Markdown.
pub(super) fn print(results: &Results) {
    println!("{}\n", tables::machine());
    let rows = Figure::ALL.map(|figure| {
        let cells = Subject::ALL.map(|subject| get(results, subject, figure));
        (figure.text(), cells.to_vec())
    });
    tables::figures(&Subject::ALL.map(Subject::name), &rows);
    println!("\nPortmaster is {} together.", services());
    tables::aims(&aims(results));
}

fn aims(results: &Results) -> Vec<Aim> {
    use Figure as F;
    use Subject::{AcceptAll, OpenSnitch, Portmaster};
    let own = |figure| get(results, Portmaster, figure);
    let ratio = |figure, other| Some(own(figure)? / get(results, other, figure)?);
    let within = |a: Figure, b: Figure| Some(own(a)? / own(b)?);
    let aim = Aim::new;
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
