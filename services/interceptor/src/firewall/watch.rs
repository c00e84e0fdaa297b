//! Keeps the rules as they should be.
//!
//! A change by somebody else is compared at once and put right at once. Somebody who undoes that again and again is not
//! fought in a tight loop: the pause between two repairs doubles up to two seconds, and the conflict is reported once.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, Interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use verdict::ruleset::{Deviation, Family};

use super::{
    Error, Firewall,
    apply::{Problem, families, has_ipv6},
    notice::{Notices, steady},
};

/// Others change several tables at once: let them finish.
const TOGETHER: Duration = Duration::from_millis(30);
/// Repairs less than this apart belong together.
const FIGHT: Duration = Duration::from_secs(5);
/// So many of them, and somebody works against us.
const CONFLICT: u32 = 6;
/// Between two repairs in a conflict: doubled each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
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
    /// Nobody has changed the rules for a while after a conflict, or they are in force after a failure.
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
            every: steady(REGULAR),
            turns: 0,
        };
        // whatever happened between loading and listening, and what could not be loaded then
        for family in families() {
            let mut repaired = false;
            let told = &mut |report: Report| {
                repaired |= matches!(report, Report::Repaired { .. });
                on_report(report);
            };
            watcher.compare(family, told).await;
            if repaired {
                on_report(Report::Settled { family });
            }
        }
        while let Some(()) = shutdown.run_until_cancelled(watcher.turn(&mut on_report)).await {}
    }
}

struct Watcher {
    firewall: Firewall,
    notices: Notices,
    seen: HashMap<Family, State>,
    every: Interval,
    turns: u32,
}

impl Watcher {
    /// One wait, and what follows from it.
    async fn turn(&mut self, on_report: &mut impl FnMut(Report)) {
        let postponed = self.seen.values().filter_map(|state| state.postponed).min();
        let mut changed = tokio::select! {
            families = self.notices.changed() => {
                sleep(TOGETHER).await;
                families
            }
            () = sleep_until(postponed.unwrap_or_else(Instant::now)), if postponed.is_some() => self.due(),
            _ = self.every.tick() => self.regular(),
        };
        changed.extend(self.notices.more());
        changed.sort();
        changed.dedup();
        for family in changed {
            self.compare(family, on_report).await;
        }
        for (family, state) in &mut self.seen {
            state.calm(*family, on_report);
        }
        self.look_for_ipv6(on_report).await;
    }

    /// Families whose repair was put off until now.
    fn due(&mut self) -> Vec<Family> {
        let now = Instant::now();
        let due = self
            .seen
            .iter_mut()
            .filter_map(|(family, state)| state.postponed.take_if(|at| *at <= now).map(|_| *family));
        due.collect()
    }

    /// Families to compare without a notice: those that failed, and now and then all.
    fn regular(&mut self) -> Vec<Family> {
        self.turns = self.turns.wrapping_add(1);
        self.firewall.keep_route();
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
        self.notices.doubt();
        if state.postpones() {
            return;
        }
        match self.firewall.repair(family, &deviations).await {
            // undone between loading and reading back: somebody is quick
            Ok(()) | Err(Error::Unverified { .. }) => state.repairs(family, deviations, on_report),
            Err(error) => state.fails(family, &error, on_report),
        }
    }

    /// IPv6 may come up while we run.
    async fn look_for_ipv6(&mut self, on_report: &mut impl FnMut(Report)) {
        let family = Family::V6;
        if self.seen.contains_key(&family) || !has_ipv6() {
            return;
        }
        self.seen.insert(family, State::default());
        let up = |report| match report {
            Report::Repaired { family, .. } => Report::Up { family },
            other => other,
        };
        self.compare(family, &mut |report| on_report(up(report))).await;
    }
}

/// One family's.
#[derive(Default)]
struct State {
    repaired: Option<Instant>,
    in_a_row: u32,
    postponed: Option<Instant>,
    conflict: bool,
    failing: bool,
}

impl State {
    /// In a conflict the next repair waits for its time.
    fn postpones(&mut self) -> bool {
        let quiet = self.in_a_row.saturating_sub(CONFLICT / 2);
        let Some(last) = self.repaired.filter(|_| quiet > 0) else {
            return false;
        };
        let at = last + PAUSE.saturating_mul(1 << quiet.min(10)).min(LONGEST_PAUSE);
        self.postponed = Some(at).filter(|at| *at > Instant::now());
        self.postponed.is_some()
    }

    fn works(&mut self, family: Family, on_report: &mut impl FnMut(Report)) {
        if std::mem::take(&mut self.failing) {
            self.in_a_row = 0;
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

    fn fails(&mut self, family: Family, error: &Error, on_report: &mut impl FnMut(Report)) {
        self.repaired = Some(Instant::now());
        self.in_a_row = CONFLICT * 2; // what a failed attempt changed is told to us as well: no tight loop
        if !self.failing {
            self.failing = true;
            let problem = Problem::unrepaired(family, error);
            on_report(Report::Failed { family, problem });
        }
    }

    /// A conflict ends by silence.
    fn calm(&mut self, family: Family, on_report: &mut impl FnMut(Report)) {
        if self.conflict && self.repaired.is_none_or(|last| last.elapsed() > FIGHT) {
            self.conflict = false;
            self.in_a_row = 0;
            on_report(Report::Settled { family });
        }
    }
}
