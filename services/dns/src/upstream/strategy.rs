//! In which order upstreams are asked, and how many at once. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::health::Standing;

/// How one of several upstreams is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The first in the list that answers; the next is asked when one fails, or is slower than it ever should be.
    #[default]
    Failover,
    /// Several at once; the first answer counts.
    Race,
    /// The one that has answered fastest of late; the others are measured now and then.
    Fastest,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Whether it answers.
    pub(crate) standing: Standing,
    /// Whether it may be asked although it is down, if all are.
    pub(crate) urgent: bool,
    /// How fast.
    pub(crate) rtt: Option<Duration>,
    /// Whether the way to it is encrypted.
    pub(crate) encrypted: bool,
}

/// The upstreams to ask, by their place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Those to ask, the best first. All of them encrypted, or all of them not.
    pub(crate) order: Vec<usize>,
    /// How many of them at once.
    pub(crate) width: usize,
    /// Those that are asked beside, to see whether they are back; their answer counts as well.
    pub(crate) probes: Vec<usize>,
}

/// With [`Strategy::Fastest`], each so-many-th query also asks another one.
const MEASURE_EACH: u64 = 64;

/// Makes the plan for one query; `tick` counts queries. With `clear` false no upstream in the clear is in it unless all are.
pub(crate) fn plan(
    strategy: Strategy,
    width: usize,
    candidates: &[Candidate],
    clear: bool,
    tick: u64,
) -> Plan {
    let eligible = |at: &usize| candidates.get(*at).is_some_and(|one| one.encrypted != clear);
    let standing = |at: &usize| candidates.get(*at).map(|one| one.standing);
    let all: Vec<usize> = (0..candidates.len()).filter(eligible).collect();
    let of = |wanted: Standing| all.iter().copied().filter(move |at| standing(at) == Some(wanted));
    let mut order: Vec<usize> = of(Standing::Up).collect();
    let mut probes: Vec<usize> = of(Standing::Probe).collect();
    if order.is_empty() {
        order = std::mem::take(&mut probes);
    }
    if order.is_empty() {
        order = all
            .iter()
            .copied()
            .filter(|at| candidates.get(*at).is_some_and(|one| one.urgent))
            .collect();
    }
    let mut width = if strategy == Strategy::Race {
        width.max(1)
    } else {
        1
    };
    if strategy == Strategy::Fastest {
        order.sort_by_key(|at| candidates.get(*at).and_then(|one| one.rtt).unwrap_or_default());
        if tick % MEASURE_EACH == MEASURE_EACH - 1 && order.len() > 1 {
            let other = 1 + usize::try_from(tick / MEASURE_EACH).unwrap_or(0) % (order.len() - 1);
            order.swap(1, other);
            width = 2;
        }
    }
    Plan { order, width, probes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(standing: Standing, rtt: u64) -> Candidate {
        Candidate {
            standing,
            rtt: (rtt > 0).then(|| Duration::from_millis(rtt)),
            encrypted: true,
            urgent: false,
        }
    }

    const UP: Standing = Standing::Up;

    fn order(strategy: Strategy, candidates: &[Candidate], tick: u64) -> (Vec<usize>, usize, Vec<usize>) {
        let plan = plan(strategy, 2, candidates, false, tick);
        (plan.order, plan.width, plan.probes)
    }

    #[test]
    fn failover_keeps_the_owners_order_and_leaves_out_what_is_down() {
        let three = [candidate(Standing::Down, 1), candidate(UP, 9), candidate(UP, 1)];
        assert_eq!(order(Strategy::Failover, &three, 0), (vec![1, 2], 1, vec![]));
    }

    #[test]
    fn a_probe_goes_beside_a_query_and_delays_none() {
        let three = [
            candidate(Standing::Probe, 1),
            candidate(UP, 9),
            candidate(Standing::Down, 1),
        ];
        assert_eq!(order(Strategy::Failover, &three, 0), (vec![1], 1, vec![0]));
    }

    #[test]
    fn when_all_are_down_the_one_that_is_due_is_asked_and_otherwise_nobody() {
        let due = [candidate(Standing::Down, 1), candidate(Standing::Probe, 1)];
        assert_eq!(order(Strategy::Race, &due, 0), (vec![1], 2, vec![]));
        let mut none = [candidate(Standing::Down, 1)];
        assert_eq!(order(Strategy::Race, &none, 0), (vec![], 2, vec![]));
        none[0].urgent = true;
        assert_eq!(order(Strategy::Race, &none, 0), (vec![0], 2, vec![]));
    }

    #[test]
    fn the_fastest_goes_first_an_unmeasured_one_before_it_and_the_others_are_measured_now_and_then() {
        let three = [candidate(UP, 9), candidate(UP, 3), candidate(UP, 5)];
        assert_eq!(order(Strategy::Fastest, &three, 0), (vec![1, 2, 0], 1, vec![]));
        let fresh = [candidate(UP, 9), candidate(UP, 0)];
        assert_eq!(order(Strategy::Fastest, &fresh, 0).0, [1, 0]);
        let measured: Vec<usize> = (0..4)
            .map(|n| order(Strategy::Fastest, &three, n * 64 + 63).0[1])
            .collect();
        assert_eq!(measured, [2, 0, 2, 0]);
        assert_eq!(order(Strategy::Fastest, &three, 63).1, 2);
    }

    #[test]
    fn what_is_encrypted_and_what_is_not_are_never_in_one_plan() {
        let mut two = [candidate(UP, 9), candidate(UP, 3)];
        two[1].encrypted = false;
        assert_eq!(plan(Strategy::Race, 2, &two, false, 0).order, [0]);
        assert_eq!(plan(Strategy::Race, 2, &two, true, 0).order, [1]);
    }
}
