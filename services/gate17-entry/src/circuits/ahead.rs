//! Circuits that are built before they are needed: how many of which kind follows from what was used lately.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    owner::{Owner, Shape},
    table::Known,
};
use crate::circuit::Circuit;

/// Spares in all.
const MOST: usize = 6;
/// A kind that was not used for so long needs none.
const FOLLOWED: Duration = Duration::from_secs(600);
/// Two that were needed within this time: two are kept.
const OFTEN: Duration = Duration::from_secs(60);
/// One that nobody took is closed after this time, and another takes its place: nodes come and go.
const STALE: Duration = Duration::from_secs(1800);
/// After a failure; twice as long after the next one.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Built at once, of what nobody waits for.
const AT_ONCE: usize = 4;
/// After a circuit was replaced: its replacement may be no better.
const AGAIN: Duration = Duration::from_secs(30);

/// Something to be built.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// One more spare of this kind.
    Spare(Shape),
    /// One that takes the place of those that this owner has.
    Replace(Owner),
}

#[derive(Clone, Copy, Debug)]
struct Used {
    /// By anybody.
    last: Instant,
    /// When one had to be had that was not there, the last two times.
    needed: [Option<Instant>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Begun(Duration),
    Rests(Instant, Duration),
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    spares: Vec<(Shape, Known)>,
    used: HashMap<Shape, Used>,
    owners: HashMap<Owner, Instant>,
    work: HashMap<Job, Work>,
}

impl Ahead {
    /// Those that nobody has yet.
    pub(super) fn spares(&self) -> impl Iterator<Item = &Known> {
        self.spares.iter().map(|(_, known)| known)
    }

    /// A stream goes by a circuit of this owner.
    pub(super) fn used(&mut self, owner: &Owner, now: Instant) {
        self.owners.insert(owner.clone(), now);
        self.of(owner.shape(), now).last = now;
    }

    /// Another circuit had to be had.
    pub(super) fn needed(&mut self, shape: Shape, now: Instant) {
        let used = self.of(shape, now);
        used.last = now;
        let [last, _] = used.needed;
        used.needed = [Some(now), last];
    }

    /// Whether this owner's streams go on coming.
    pub(super) fn is_active(&self, owner: &Owner, now: Instant) -> bool {
        self.owners
            .get(owner)
            .is_some_and(|last| now.saturating_duration_since(*last) < OFTEN * 2)
    }

    /// One that fits; it is the caller's.
    pub(super) fn take(&mut self, shape: &Shape, fits: impl Fn(&Circuit) -> bool) -> Option<Arc<Circuit>> {
        let place = self
            .spares
            .iter()
            .position(|(of, known)| of == shape && fits(&known.circuit))?;
        Some(self.spares.swap_remove(place).1.circuit)
    }

    /// One was built.
    pub(super) fn put(&mut self, shape: Shape, known: Known) {
        self.spares.push((shape, known));
    }

    /// Takes out those that are of no use any more.
    pub(super) fn tidy(&mut self, now: Instant, holds: impl Fn(&Circuit) -> bool) -> Vec<Known> {
        self.used
            .retain(|_, used| now.saturating_duration_since(used.last) < FOLLOWED);
        self.owners
            .retain(|_, last| now.saturating_duration_since(*last) < FOLLOWED);
        self.work.retain(|_, work| match work {
            Work::Begun(_) => true,
            // how long a failure's rest was is remembered for as long again
            Work::Rests(until, pause) => now < *until + *pause,
        });
        let used = &self.used;
        let gone = self.spares.extract_if(.., |(shape, known)| {
            let is_stale = now.saturating_duration_since(known.taken) > STALE;
            is_stale || !used.contains_key(shape) || !holds(&known.circuit)
        });
        gone.map(|(_, known)| known).collect()
    }

    /// The spares that are missing.
    pub(super) fn missing(&self, now: Instant) -> Vec<Job> {
        let missing = self.used.iter().filter(|(shape, used)| {
            let have = self.spares.iter().filter(|(of, _)| of == *shape).count();
            have < wanted(used, now)
        });
        let jobs = missing.map(|(shape, _)| Job::Spare(shape.clone()));
        jobs.take(MOST.saturating_sub(self.spares.len())).collect()
    }

    /// Whether it may be begun now; it is, then.
    pub(super) fn begin(&mut self, job: &Job, now: Instant) -> bool {
        let begun = |work: &&Work| matches!(work, Work::Begun(_));
        if self.work.values().filter(begun).count() >= AT_ONCE {
            return false;
        }
        let pause = match self.work.get(job) {
            Some(Work::Begun(_)) => return false,
            Some(Work::Rests(until, _)) if now < *until => return false,
            Some(Work::Rests(_, pause)) => *pause,
            None => Duration::ZERO,
        };
        self.work.insert(job.clone(), Work::Begun(pause));
        true
    }

    /// What was begun has ended.
    pub(super) fn ended(&mut self, job: &Job, well: bool, now: Instant) {
        let before = match self.work.get(job) {
            Some(Work::Begun(pause)) => *pause,
            _ => Duration::ZERO,
        };
        let pause = match (well, job) {
            (true, Job::Spare(_)) => {
                self.work.remove(job);
                return;
            }
            (true, Job::Replace(_)) => AGAIN,
            (false, _) => (before * 2).clamp(REST, LONGEST_REST),
        };
        self.work.insert(job.clone(), Work::Rests(now + pause, pause));
    }

    fn of(&mut self, shape: Shape, now: Instant) -> &mut Used {
        self.used.entry(shape).or_insert(Used {
            last: now,
            needed: [None, None],
        })
    }
}

fn wanted(used: &Used, now: Instant) -> usize {
    let [_, last_but_one] = used.needed;
    let often = last_but_one.is_some_and(|at| now.saturating_duration_since(at) < OFTEN);
    if often { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use verdict::policy::tunnel::{ExitChoice, Hops};

    use super::*;

    fn shape(hops: u32) -> Shape {
        Shape {
            hops: Hops::new(hops).unwrap(),
            exit: ExitChoice::Any,
        }
    }

    #[test]
    fn what_was_used_lately_has_a_spare_and_what_was_needed_often_two() {
        let (mut ahead, now) = (Ahead::default(), Instant::now());
        assert_eq!(ahead.missing(now), []);
        ahead.needed(shape(3), now);
        assert_eq!(ahead.missing(now), [Job::Spare(shape(3))]);
        let used = |ahead: &Ahead, at| wanted(&ahead.used[&shape(3)], at);
        assert_eq!(used(&ahead, now), 1);
        ahead.needed(shape(3), now);
        assert_eq!(used(&ahead, now), 2);
        assert_eq!(used(&ahead, now + OFTEN), 1);
        ahead.tidy(now + FOLLOWED, |_| true);
        assert_eq!(ahead.missing(now + FOLLOWED), []);
    }

    #[test]
    fn however_many_kinds_are_used_few_are_built_ahead() {
        let (mut ahead, now) = (Ahead::default(), Instant::now());
        for hops in 1..=5 {
            for region in ["de", "fr"] {
                let exit = ExitChoice::Among {
                    regions: vec![region.into()],
                    nodes: vec![],
                };
                ahead.needed(Shape { exit, ..shape(hops) }, now);
            }
        }
        assert_eq!(ahead.missing(now).len(), MOST);
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let (mut ahead, mut now, job) = (Ahead::default(), Instant::now(), Job::Spare(shape(3)));
        let mut rests = Vec::new();
        for _ in 0..10 {
            assert!(ahead.begin(&job, now));
            assert!(!ahead.begin(&job, now), "it is begun already");
            ahead.ended(&job, false, now);
            let began = now;
            while !ahead.begin(&job, now) {
                now += Duration::from_secs(1);
                ahead.tidy(now, |_| true);
            }
            rests.push(now - began);
            ahead.ended(&job, false, now);
            now += LONGEST_REST;
        }
        assert_eq!(rests[0], REST);
        assert!(
            rests.is_sorted() && *rests.last().unwrap() == LONGEST_REST,
            "{rests:?}"
        );
        ahead.begin(&job, now);
        ahead.ended(&job, true, now);
        assert!(ahead.begin(&job, now), "what went well needs no rest");
    }
}
