//! Which names an address has, for whom.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::{App, Hearer};

/// Names of one address, the newest last.
type Candidates = Vec<Candidate>;

#[derive(Clone, Debug)]
struct Candidate {
    name: Arc<str>,
    until: Duration,
    /// When it was told, among all.
    at: u64,
}

/// More names than that for one address and program are of no use to a rule.
const MOST_CANDIDATES: usize = 16;
/// Pairs of programs and addresses.
const MOST_ADDRESSES: usize = 65_536;

/// Whatever is told now is newer than all that is recalled.
const NOW: u64 = 1 << 48;

/// See the module's head. Times are the caller's, and only grow.
#[derive(Debug, Default)]
pub struct Told {
    known: HashMap<(Hearer, IpAddr), Candidates>,
    /// In the order in which they were first told; what is over may stand here still.
    order: VecDeque<(Hearer, IpAddr)>,
    /// How often anybody was told anything, or it was recalled.
    times: u64,
}

impl Told {
    /// `hearer` was told that `address` belongs to `name`, and that holds until then.
    pub fn tell(&mut self, hearer: Hearer, address: IpAddr, name: &Arc<str>, now: Duration, until: Duration) {
        self.times += 1;
        let at = NOW + self.times;
        let candidates = self.candidates(hearer, address);
        candidates.retain(|candidate| candidate.until > now && candidate.name != *name);
        if candidates.len() >= MOST_CANDIDATES {
            candidates.remove(0);
        }
        candidates.push(Candidate {
            name: Arc::clone(name),
            until,
            at,
        });
    }

    /// The same of what was told before all that [`Self::tell`] says; to be called in the order in which it was. What is known keeps
    /// its place.
    pub fn recall(
        &mut self,
        hearer: Hearer,
        address: IpAddr,
        name: &Arc<str>,
        now: Duration,
        until: Duration,
    ) {
        self.times += 1;
        let at = self.times;
        let candidates = self.candidates(hearer, address);
        candidates.retain(|candidate| candidate.until > now);
        if let Some(known) = candidates.iter_mut().find(|known| known.name == *name) {
            known.until = known.until.max(until);
            return;
        }
        if candidates.len() >= MOST_CANDIDATES {
            // those that are known are newer
            if candidates.first().is_none_or(|oldest| oldest.at > at) {
                return;
            }
            candidates.remove(0);
        }
        let place = candidates.partition_point(|candidate| candidate.at < at);
        let recalled = Candidate {
            name: Arc::clone(name),
            until,
            at,
        };
        candidates.insert(place, recalled);
    }

    fn candidates(&mut self, hearer: Hearer, address: IpAddr) -> &mut Candidates {
        let pair = (hearer, address);
        if !self.known.contains_key(&pair) {
            self.make_room();
            self.order.push_back(pair.clone());
        }
        self.known.entry(pair).or_default()
    }

    /// All that holds still: who, address, name, and how long; what was told last at the end.
    pub fn valid(&self, now: Duration) -> Vec<(&Hearer, IpAddr, &Arc<str>, Duration)> {
        let all = self.known.iter().flat_map(|((hearer, address), candidates)| {
            candidates
                .iter()
                .map(move |candidate| (hearer, *address, candidate))
        });
        let mut valid: Vec<_> = all.filter(|(.., candidate)| candidate.until > now).collect();
        valid.sort_unstable_by_key(|(.., candidate)| candidate.at);
        valid
            .into_iter()
            .map(|(hearer, address, candidate)| (hearer, address, &candidate.name, candidate.until - now))
            .collect()
    }

    /// The names that `app` may mean by an address, the newest first.
    pub fn names(&self, app: Option<&App>, address: IpAddr, now: Duration) -> Vec<Arc<str>> {
        let own = app.map_or_else(Vec::new, |app| self.of(Hearer::App(app.clone()), address, now));
        if own.is_empty() {
            self.of(Hearer::Anybody, address, now)
        } else {
            own
        }
    }

    fn of(&self, hearer: Hearer, address: IpAddr, now: Duration) -> Vec<Arc<str>> {
        let candidates = self.known.get(&(hearer, address));
        let valid = candidates
            .into_iter()
            .flatten()
            .rev()
            .filter(|candidate| candidate.until > now);
        valid.map(|candidate| Arc::clone(&candidate.name)).collect()
    }

    /// How many pairs of programs and addresses there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Nothing was told.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets what is over.
    pub fn tidy(&mut self, now: Duration) {
        self.known.retain(|_, candidates| {
            candidates.retain(|candidate| candidate.until > now);
            !candidates.is_empty()
        });
        let known = &self.known;
        self.order.retain(|pair| known.contains_key(pair));
    }

    fn make_room(&mut self) {
        while self.known.len() >= MOST_ADDRESSES {
            match self.order.pop_front() {
                Some(oldest) => drop(self.known.remove(&oldest)),
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 17, 10));

    fn app(inode: u64) -> App {
        App {
            device: 1,
            inode,
            script: None,
            uid: 1000,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn names(told: &Told, inode: u64, now: u64) -> Vec<String> {
        let names = told.names(Some(&app(inode)), A, seconds(now));
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_program_means_the_names_that_it_was_told_the_newest_first() {
        let mut told = Told::default();
        for (at, name) in [(0, "one.test"), (1, "two.test"), (2, "one.test")] {
            told.tell(
                Hearer::App(app(1)),
                A,
                &name.into(),
                seconds(at),
                seconds(at + 10),
            );
        }
        assert_eq!(names(&told, 1, 3), ["one.test", "two.test"]);
        assert_eq!(names(&told, 1, 11), ["one.test"], "the other one is over");
        assert_eq!(names(&told, 2, 3), [""; 0], "another program was told nothing");
    }

    #[test]
    fn what_was_asked_for_others_is_for_those_that_were_told_nothing() {
        let mut told = Told::default();
        told.tell(Hearer::Anybody, A, &"shared.test".into(), seconds(0), seconds(9));
        told.tell(Hearer::App(app(1)), A, &"own.test".into(), seconds(0), seconds(9));
        assert_eq!(names(&told, 1, 1), ["own.test"]);
        assert_eq!(names(&told, 2, 1), ["shared.test"]);
    }

    #[test]
    fn what_is_recalled_is_older_than_what_was_told_and_nothing_is_younger_for_being_recalled() {
        let mut told = Told::default();
        let hearer = || Hearer::App(app(1));
        told.tell(hearer(), A, &"new.test".into(), seconds(5), seconds(15));
        // as a DNS service that was killed knows it: without the new one, in its order
        for name in ["oldest.test", "old.test"] {
            told.recall(hearer(), A, &name.into(), seconds(6), seconds(16));
        }
        let order = ["new.test", "old.test", "oldest.test"];
        assert_eq!(names(&told, 1, 7), order);
        for name in ["new.test", "oldest.test"] {
            told.recall(hearer(), A, &name.into(), seconds(7), seconds(20));
        }
        assert_eq!(names(&told, 1, 8), order);
        assert_eq!(
            names(&told, 1, 17),
            ["new.test", "oldest.test"],
            "they hold longer"
        );
        let valid: Vec<_> = told
            .valid(seconds(8))
            .into_iter()
            .map(|(_, _, name, left)| (name.to_string(), left.as_secs()))
            .collect();
        let expected = [("oldest.test", 12), ("old.test", 8), ("new.test", 12)];
        assert_eq!(valid, expected.map(|(name, left)| (name.to_owned(), left)));
        for number in 0..2 * MOST_CANDIDATES {
            told.tell(
                hearer(),
                A,
                &format!("n{number}.test").into(),
                seconds(8),
                seconds(20),
            );
        }
        told.recall(hearer(), A, &"late.test".into(), seconds(9), seconds(20));
        let known = names(&told, 1, 9);
        assert_eq!(known.len(), MOST_CANDIDATES);
        assert!(!known.contains(&"late.test".to_owned()), "no new one goes for it");
    }

    #[test]
    fn only_so_much_is_kept_and_the_newest_of_it() {
        let mut told = Told::default();
        for inode in 0..u64::try_from(MOST_ADDRESSES + 10).unwrap() {
            told.tell(
                Hearer::App(app(inode)),
                A,
                &"a.test".into(),
                seconds(0),
                seconds(9),
            );
        }
        assert_eq!(told.len(), MOST_ADDRESSES);
        assert_eq!(names(&told, 9, 1), [""; 0]);
        assert_eq!(names(&told, 10, 1), ["a.test"]);
        told.tidy(seconds(10));
        assert!(told.is_empty() && told.order.is_empty());
    }
}
