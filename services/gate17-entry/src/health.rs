//! How nodes did so far: by this a path is chosen.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use gate17_proto::{
    map::NodeId,
    path::Health,
    trouble::{AVOIDED, Trouble},
};

use crate::{
    blame::{CERTAIN, Fault},
    suspects::{Found, Suspects},
};

/// Nodes that are remembered; more than a map's worth are those of old maps.
const MOST: usize = 65_536;

/// What ended several circuits within this time was one break.
const ONCE: Duration = Duration::from_secs(5);

/// Of one node: a pure value, with time as it is told.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    trouble: Trouble,
    since: Option<Instant>,
    round_trip: Option<Duration>,
    problem: String,
}

impl Standing {
    /// How much it is to be avoided: 0 to 1, less with time.
    pub fn trouble(&self, now: Instant) -> f64 {
        self.trouble.now(self.passed(now))
    }

    /// It had a part in a failure, of this weight.
    pub fn blamed(&mut self, weight: f64, problem: &str, now: Instant) {
        self.trouble = self.trouble.blamed(weight, self.passed(now));
        self.since = Some(now);
        problem.clone_into(&mut self.problem);
    }

    /// What it was blamed for since `when` was somebody else's doing.
    pub fn cleared(&mut self, when: Instant, now: Instant) {
        let most = Trouble::default().blamed(CERTAIN, Duration::ZERO);
        let passed = now.saturating_duration_since(when);
        self.trouble = self.trouble.cleared(most.now(passed), self.passed(now));
        self.since = Some(now);
    }

    /// It did what it is there for.
    pub fn did_well(&mut self, now: Instant) {
        self.trouble = self.trouble.eased(self.passed(now));
        self.since = Some(now);
    }

    /// What it adds to a path's round trip; later measurements count for a quarter.
    pub fn measured(&mut self, round_trip: Duration) {
        self.round_trip = Some(
            self.round_trip
                .map_or(round_trip, |known| (known * 3 + round_trip) / 4),
        );
    }

    fn passed(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[derive(Debug, Default)]
struct Record {
    standing: Standing,
    /// At which of its addresses it answered last: to us, and to a node before it.
    answered: [Option<SocketAddr>; 2],
    /// When it last had a part in a break.
    broke: Option<Instant>,
}

/// Of all nodes that something was tried with; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    all: Arc<Mutex<All>>,
}

#[derive(Debug, Default)]
struct All {
    records: HashMap<NodeId, Record>,
    suspects: Suspects,
}

impl Nodes {
    /// For the choice of a path.
    pub fn of(&self, node: &NodeId, now: Instant) -> Health {
        self.lock()
            .records
            .get(node)
            .map_or_else(Health::default, |record| Health {
                round_trip: record.standing.round_trip,
                trouble: record.standing.trouble(now),
            })
    }

    /// Whether others are to be taken, where there are any.
    pub fn is_avoided(&self, node: &NodeId, now: Instant) -> bool {
        self.of(node, now).trouble >= AVOIDED
    }

    /// What went wrong last, in words; empty where nothing did, or not lately.
    pub fn problem(&self, node: &NodeId, now: Instant) -> String {
        let all = self.lock();
        let standing = all.records.get(node).map(|record| &record.standing);
        let troubled = standing.filter(|standing| standing.trouble(now) >= AVOIDED);
        troubled
            .map(|standing| standing.problem.clone())
            .unwrap_or_default()
    }

    /// A path of `hops` failed: whoever had a part in it is blamed.
    pub fn failed(&self, hops: &[NodeId], fault: &Fault, now: Instant) {
        let place = |at: usize| hops.get(at);
        let pair = fault
            .is_between()
            .then(|| place(fault.at - 1).zip(place(fault.at)));
        let mut all = self.lock();
        let found = match pair.flatten() {
            Some((before, after)) => all.suspects.note(before, after, fault.is_untrue(), now),
            None => Found::Either,
        };
        let (blamed, cleared) = match found {
            Found::Either => (fault.blame(), Vec::new()),
            Found::Before(cleared) => (vec![(fault.at - 1, CERTAIN)], cleared),
            Found::After(cleared) => (vec![(fault.at, CERTAIN)], cleared),
        };
        for (at, weight) in blamed {
            let Some(node) = place(at) else { continue };
            let text = match place(fault.at) {
                Some(other) if at != fault.at => format!("the node after it, {}: {}", other.0, fault.text),
                _ => fault.text.clone(),
            };
            let record = all.record(node);
            // one break is not several, unless it becomes clear whose it is
            if fault.is_break() && record.has_broken(now) && cleared.is_empty() {
                continue;
            }
            record.standing.blamed(weight, &text, now);
        }
        for (node, when) in cleared {
            all.record(&node).standing.cleared(when, now);
        }
    }

    /// A circuit stands: its nodes did what they are there for, and who could not reach one of them just now lied.
    pub fn stood(&self, hops: &[NodeId], now: Instant) {
        let mut all = self.lock();
        for (before, after) in hops.iter().zip(hops.iter().skip(1)) {
            for (liar, when) in all.suspects.stood(before, after, now) {
                let text = format!(
                    "the node after it, {}, can be reached, though not by way of it",
                    after.0
                );
                all.record(&liar).standing.blamed(CERTAIN, &text, now);
                all.record(after).standing.cleared(when, now);
            }
        }
        for node in hops {
            all.record(node).standing.did_well(now);
        }
    }

    /// It did what it is there for.
    pub fn did_well(&self, node: &NodeId, now: Instant) {
        if let Some(record) = self.lock().records.get_mut(node) {
            record.standing.did_well(now);
        }
    }

    /// It was measured.
    pub fn measured(&self, node: &NodeId, round_trip: Duration) {
        self.with(node, |record| record.standing.measured(round_trip));
    }

    /// It answered at this address; `through`: to a node before it, else to us.
    pub fn answered(&self, node: &NodeId, through: bool, address: SocketAddr) {
        self.with(node, |record| {
            let [direct, behind] = &mut record.answered;
            *(if through { behind } else { direct }) = Some(address);
        });
    }

    /// Where it answered last.
    pub fn answers_at(&self, node: &NodeId, through: bool) -> Option<SocketAddr> {
        let all = self.lock();
        let [direct, behind] = all.records.get(node)?.answered;
        if through { behind } else { direct }
    }

    fn with(&self, node: &NodeId, change: impl FnOnce(&mut Record)) {
        change(self.lock().record(node));
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // nothing in here is left half done by a panic
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn record(&mut self, node: &NodeId) -> &mut Record {
        if self.records.len() >= MOST {
            self.records.clear();
        }
        self.records.entry(node.clone()).or_default()
    }
}

impl Record {
    /// Whether it had a part in a break just now; it has from now on.
    fn has_broken(&mut self, now: Instant) -> bool {
        let has = self
            .broke
            .is_some_and(|last| now.saturating_duration_since(last) < ONCE);
        if !has {
            self.broke = Some(now);
        }
        has
    }
}

#[cfg(test)]
mod tests;
