//! What was told to whom: which addresses belong to a name, for one who asked, and until when.
//!
//! Invariant: bounded; where there is no room, what was first told longest ago goes. Whoever follows this table has to hear
//! of an answer before it is given, unless it holds already what [`Told::is_new`] is asked about.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use crate::Name;

#[derive(Clone, Debug)]
struct Entry {
    addresses: Box<[IpAddr]>,
    until: Duration,
    /// When it was told last, among all.
    told: u64,
}

/// Whatever is learnt is newer than all that is recalled.
const NOW: u64 = 1 << 48;

/// See the module's head. `K` says who was told. Times are the caller's, and only grow.
#[derive(Clone, Debug)]
pub struct Told<K> {
    known: HashMap<(K, Arc<Name>), Entry>,
    /// As first told, oldest first; what is over may stand here still.
    order: VecDeque<(K, Arc<Name>)>,
    most: usize,
    /// How often anybody was told anything, or it was recalled.
    times: u64,
}

impl<K: Clone + Eq + Hash> Told<K> {
    /// Room for `most` pairs of hearers and names.
    pub fn new(most: usize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            most,
            times: 0,
        }
    }

    /// Whether telling this says more than was told before. What holds for half of the time that is left is no news.
    pub fn is_new(
        &self,
        hearer: &K,
        name: &Arc<Name>,
        addresses: &[IpAddr],
        now: Duration,
        until: Duration,
    ) -> bool {
        let enough = now + until.saturating_sub(now) / 2;
        self.known
            .get(&(hearer.clone(), Arc::clone(name)))
            .is_none_or(|entry| {
                entry.until < enough || !addresses.iter().all(|address| entry.addresses.contains(address))
            })
    }

    /// `hearer` is told these addresses of `name`, which holds until then. What it was told before holds as long as it did.
    pub fn learn(
        &mut self,
        hearer: K,
        name: Arc<Name>,
        addresses: &[IpAddr],
        now: Duration,
        until: Duration,
    ) {
        self.times += 1;
        self.put((hearer, name), addresses, now, until, NOW + self.times);
    }

    /// The same of what was told before all that [`Self::learn`] says, perhaps by another; to be called in the order in which it was.
    pub fn recall(
        &mut self,
        hearer: K,
        name: Arc<Name>,
        addresses: &[IpAddr],
        now: Duration,
        until: Duration,
    ) {
        self.times += 1;
        self.put((hearer, name), addresses, now, until, self.times);
    }

    fn put(&mut self, pair: (K, Arc<Name>), addresses: &[IpAddr], now: Duration, until: Duration, told: u64) {
        if let Some(entry) = self.known.get_mut(&pair) {
            let holds = entry.until > now;
            let before = entry.addresses.iter().filter(|_| holds);
            let new = addresses
                .iter()
                .filter(|address| !holds || !entry.addresses.contains(address));
            let all: Box<[IpAddr]> = before.chain(new).copied().collect();
            entry.until = entry.until.max(until);
            entry.addresses = all;
            entry.told = entry.told.max(told);
            return;
        }
        while self.known.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(pair.clone());
        let entry = Entry {
            addresses: addresses.into(),
            until,
            told,
        };
        self.known.insert(pair, entry);
    }

    /// All that holds still: who, name, addresses, and how long. In the order in which it was told, what was told last at the
    /// end: whoever learns it in that order knows which of several names of an address is the newest.
    pub fn valid(&self, now: Duration) -> impl Iterator<Item = (&K, &Name, &[IpAddr], Duration)> {
        let holds = self.known.iter().filter(|(_, entry)| entry.until > now);
        let mut all: Vec<_> = holds.collect();
        all.sort_unstable_by_key(|(_, entry)| entry.told);
        all.into_iter()
            .map(move |((hearer, name), entry)| (hearer, &**name, &*entry.addresses, entry.until - now))
    }

    /// Forgets what is over.
    pub fn tidy(&mut self, now: Duration) {
        self.known.retain(|_, entry| entry.until > now);
        let known = &self.known;
        self.order.retain(|pair| known.contains_key(pair));
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Nothing was told.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 17, 10));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 17, 11));

    fn name(text: &str) -> Arc<Name> {
        Arc::new(text.parse().unwrap())
    }

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_told_is_no_news_until_half_of_it_is_over() {
        let mut told = Told::new(8);
        let www = name("www.test");
        assert!(told.is_new(&1, &www, &[A], at(0), at(100)));
        told.learn(1, Arc::clone(&www), &[A], at(0), at(100));
        assert!(!told.is_new(&1, &www, &[A], at(40), at(140)));
        assert!(told.is_new(&1, &www, &[A], at(60), at(160)));
        assert!(told.is_new(&1, &www, &[A, B], at(1), at(101)), "another address");
        assert!(told.is_new(&2, &www, &[A], at(1), at(101)), "somebody else");
        assert!(told.is_new(&1, &name("ww.test"), &[A], at(1), at(101)));
    }

    #[test]
    fn addresses_add_up_while_they_hold() {
        let mut told = Told::new(8);
        let www = name("www.test");
        told.learn(1, Arc::clone(&www), &[A], at(0), at(10));
        told.learn(1, Arc::clone(&www), &[B], at(5), at(15));
        let all = |told: &Told<i32>, now| {
            told.valid(now)
                .map(|(_, _, addresses, left)| (addresses.to_vec(), left))
                .collect::<Vec<_>>()
        };
        assert_eq!(all(&told, at(6)), [(vec![A, B], at(9))]);
        assert_eq!(all(&told, at(15)), []);
        told.learn(1, www, &[B], at(20), at(30));
        assert_eq!(all(&told, at(21)), [(vec![B], at(9))]);
    }

    #[test]
    fn what_was_told_last_stands_at_the_end() {
        let mut told = Told::new(64);
        let texts: Vec<String> = (0..32).map(|number| format!("n{number}.test")).collect();
        for text in &texts {
            told.learn(1, name(text), &[A], at(0), at(100));
        }
        // told again: it is the newest now
        told.learn(1, name(&texts[3]), &[A], at(1), at(101));
        let order: Vec<String> = told
            .valid(at(2))
            .map(|(_, name, _, _)| name.to_string())
            .collect();
        let expected = texts.iter().filter(|text| **text != texts[3]).chain([&texts[3]]);
        assert!(order.iter().eq(expected), "{order:?}");
    }

    #[test]
    fn what_is_recalled_stands_before_what_was_told() {
        let mut told = Told::new(64);
        told.learn(1, name("new.test"), &[A], at(0), at(100));
        for text in ["oldest.test", "new.test", "old.test"] {
            told.recall(1, name(text), &[B], at(1), at(50));
        }
        let all: Vec<_> = told
            .valid(at(2))
            .map(|(_, name, addresses, left)| (name.to_string(), addresses.len(), left))
            .collect();
        let expected = [("oldest.test", 1, 48), ("old.test", 1, 48), ("new.test", 2, 98)];
        assert_eq!(
            all,
            expected.map(|(name, count, left)| (name.to_owned(), count, at(left)))
        );
    }

    #[test]
    fn only_so_much_is_kept() {
        let mut told = Told::new(2);
        for (hearer, seconds) in [(1, 10), (2, 20), (3, 30)] {
            told.learn(hearer, name("a.test"), &[A], at(0), at(seconds));
        }
        assert_eq!(told.len(), 2);
        assert!(told.is_new(&1, &name("a.test"), &[A], at(0), at(10)));
        told.tidy(at(25));
        assert_eq!((told.len(), told.order.len()), (1, 1));
    }
}
