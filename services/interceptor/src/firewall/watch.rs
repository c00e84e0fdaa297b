//! Keeps the rules as they should be.
//!
//! A change by somebody else is compared at once and put right at once. Somebody who undoes that again and again is not
//! fought in a tight loop: the pause between two repairs doubles up to two seconds, and the conflict is reported once.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use verdict::ruleset::{Deviation, Family};

use super::{
    Firewall,
    apply::{Problem, families, has_ipv6},
    notice::Notices,
};

/// Others change several tables at once: let them finish.
const TOGETHER: Duration = Duration::from_millis(30);
/// Two repairs less than this apart: somebody works against us.
const FIGHT: Duration = Duration::from_secs(5);
/// So many of them are a conflict.
const CONFLICT: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Compared even without notice; and a family that has come up since is noticed.
const REGULAR: Duration = Duration::from_secs(5);
/// Every so many regular turns all rules are read.
const FULL: u32 = 12;

/// What the watcher saw and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Somebody changed the rules; they are as they should be again.
    Repaired {
        /// Whose rules.
        family: Family,
        /// What was found.
        deviations: Vec<Deviation>,
    },
    /// Somebody keeps changing the rules; repairs go on, more slowly. Said once.
    Conflict {
        /// Whose rules.
        family: Family,
        /// What was found last.
        deviations: Vec<Deviation>,
    },
    /// Nobody has changed the rules for a while after a conflict, or repairs work again after a failure.
    Settled {
        /// Whose rules.
        family: Family,
    },
    /// The rules are not as they should be and cannot be put right; tried again every few seconds. Said once.
    Failed {
        /// Whose rules.
        family: Family,
        /// Why.
        problem: Problem,
    },
    /// The kernel speaks this family only now, and its rules are loaded.
    Up {
        /// Which.
        family: Family,
    },
}

impl Firewall {
    /// Runs until `shutdown`. Start it after [`Firewall::apply`]; a family whose rules could not be loaded then is tried
    /// again here.
    pub async fn watch(self, shutdown: CancellationToken, mut on_report: impl FnMut(Report)) {
        let mut watcher = Watcher {
            notices: Notices::open(self.backend()),
            seen: families().map(|family| (family, State::default())).collect(),
            firewall: self,
            turns: 0,
        };
        while let Some(()) = shutdown.run_until_cancelled(watcher.turn(&mut on_report)).await {}
    }
}

struct Watcher {
    firewall: Firewall,
    notices: Notices,
    seen: HashMap<Family, State>,
    turns: u32,
}

/// One family's.
#[derive(Default)]
struct State {
    repaired: Option<Instant>,
    in_a_row: u32,
    failing: bool,
    conflict: bool,
}

impl Watcher {
    /// One wait, and what follows from it.
    async fn turn(&mut self, on_report: &mut impl FnMut(Report)) {
        let changed = tokio::select! {
            families = self.notices.changed() => {
                sleep(TOGETHER).await;
                families
            }
            () = sleep(REGULAR) => self.regular(),
        };
        self.notices.settle();
        for family in changed {
            self.compare(family, on_report).await;
        }
        self.calm(on_report);
        if !self.seen.contains_key(&Family::V6) && has_ipv6() {
            self.seen.insert(Family::V6, State::default());
            self.compare(Family::V6, &mut |report| {
                on_report(match report {
                    Report::Repaired { family, .. } => Report::Up { family },
                    other => other,
                });
            })
            .await;
        }
    }

    /// Families to compare without a notice: those that failed, and now and then all.
    fn regular(&mut self) -> Vec<Family> {
        self.turns = self.turns.wrapping_add(1);
        let all = self.turns.is_multiple_of(FULL);
        let due = self.seen.iter().filter(|(_, state)| all || state.failing);
        due.map(|(family, _)| *family).collect()
    }

    async fn compare(&mut self, family: Family, on_report: &mut impl FnMut(Report)) {
        let Some(state) = self.seen.get_mut(&family) else {
            return;
        };
        let deviations = match self.firewall.verify_family(family).await {
            Ok(deviations) if deviations.is_empty() => return state.works(family, on_report),
            Ok(deviations) => deviations,
            Err(error) => return state.fails(family, &error, on_report),
        };
        sleep(state.pause()).await;
        match self.firewall.repair(family, &deviations).await {
            Ok(()) => state.repairs(family, deviations, on_report),
            Err(error) => state.fails(family, &error, on_report),
        }
    }

    /// Conflicts end by silence.
    fn calm(&mut self, on_report: &mut impl FnMut(Report)) {
        for (family, state) in &mut self.seen {
            if state.conflict && state.repaired.is_none_or(|last| last.elapsed() > FIGHT) {
                state.conflict = false;
                state.in_a_row = 0;
                on_report(Report::Settled { family: *family });
            }
        }
    }
}

impl State {
    /// Before the next repair.
    fn pause(&self) -> Duration {
        if self.in_a_row < 2 || self.repaired.is_none_or(|last| last.elapsed() > FIGHT) {
            return Duration::ZERO;
        }
        let doubled = SHORTEST_PAUSE.saturating_mul(1 << self.in_a_row.min(10));
        doubled.min(LONGEST_PAUSE)
    }

    fn works(&mut self, family: Family, on_report: &mut impl FnMut(Report)) {
        if std::mem::take(&mut self.failing) {
            on_report(Report::Settled { family });
        }
    }

    fn repairs(&mut self, family: Family, deviations: Vec<Deviation>, on_report: &mut impl FnMut(Report)) {
        let soon = self.repaired.is_some_and(|last| last.elapsed() < FIGHT);
        self.in_a_row = if soon { self.in_a_row.saturating_add(1) } else { 1 };
        self.repaired = Some(Instant::now());
        self.works(family, on_report);
        if self.in_a_row < CONFLICT {
            on_report(Report::Repaired { family, deviations });
        } else if !self.conflict {
            self.conflict = true;
            on_report(Report::Conflict { family, deviations });
        }
    }

    fn fails(&mut self, family: Family, error: &super::Error, on_report: &mut impl FnMut(Report)) {
        if !self.failing {
            self.failing = true;
            let problem = Problem::unrepaired(family, error);
            on_report(Report::Failed { family, problem });
        }
    }
}
