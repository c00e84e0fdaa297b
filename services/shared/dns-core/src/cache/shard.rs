//! One part of the cache: a table, and two queues that say who has to go.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::Duration,
};

use super::{Found, Statistics, is_worth, millis, seconds};
use crate::wire::{Age, Answer};

/// How much of the room what is new may take: one part of this many.
const SMALL_PART: usize = 10;
/// How often an entry's use is counted for the queues.
const MOST_FREQUENT: u8 = 3;
/// So many uses in the small queue move an entry to the main one.
const PROVEN: u8 = 2;
/// What the table, the queues, the reference counts and the memory of names gone take for each entry, in bytes.
const BESIDE: usize = size_of::<Slot>() + 16 + 24 + 4 + 24;
/// An entry used so often is worth being refreshed.
const WORTH_REFRESH: u8 = 2;
/// The end of a life in which a refresh is asked for: one part of this many.
const LAST_PART: i64 = 10;

/// An entry. Times in milliseconds.
#[derive(Debug)]
pub(super) struct Slot {
    hash: u64,
    pub(super) key: Box<[u8]>,
    /// None once forgotten; the slot goes when its turn in the queue comes.
    answer: Option<Arc<Answer>>,
    pub(super) stored: i64,
    pub(super) expires: i64,
    /// Until when the upstreams are left alone.
    rest_until: i64,
    pub(super) uses: u8,
    frequency: u8,
    refresh_asked: bool,
    in_main: bool,
    cost: usize,
}

#[derive(Debug)]
pub(super) struct Shard {
    table: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// What was pushed out of the small queue lately: whoever of them comes back goes to the main one.
    gone: VecDeque<u64>,
    gone_set: HashSet<u64, BuildHasherDefault<AsIs>>,
    room: usize,
    small_bytes: usize,
    stale: i64,
    rest: i64,
    statistics: Statistics,
}

/// The keys of the tables are keyed hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

impl Shard {
    pub(super) fn new(room: usize, stale: Duration, rest: Duration) -> Self {
        Self {
            table: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            gone: VecDeque::new(),
            gone_set: HashSet::default(),
            room,
            small_bytes: 0,
            stale: millis(stale),
            rest: millis(rest),
            statistics: Statistics::default(),
        }
    }

    pub(super) fn get(&mut self, hash: u64, key: &[u8], now: i64) -> Found {
        let found = self.look(hash, key, now);
        match &found {
            Found::Miss => self.statistics.misses += 1,
            Found::Stale(_) => self.statistics.stale += 1,
            Found::Fresh { refresh, .. } => {
                self.statistics.hits += 1;
                self.statistics.refreshes += u64::from(*refresh);
            }
        }
        found
    }

    fn look(&mut self, hash: u64, key: &[u8], now: i64) -> Found {
        let stale = self.stale;
        let Some((slot, answer)) = self.find(hash, key) else {
            return Found::Miss;
        };
        slot.frequency = (slot.frequency + 1).min(MOST_FREQUENT);
        let left = slot.expires - now;
        if left <= 0 {
            let may = left > -stale && now < slot.rest_until;
            return if may { Found::Stale(answer) } else { Found::Miss };
        }
        slot.uses = slot.uses.saturating_add(1);
        let life = slot.expires - slot.stored;
        let refresh = !slot.refresh_asked
            && slot.uses >= WORTH_REFRESH
            && left * LAST_PART <= life
            && is_worth(&answer);
        slot.refresh_asked |= refresh;
        Found::Fresh {
            answer,
            age: seconds(now - slot.stored),
            refresh,
        }
    }

    pub(super) fn insert(&mut self, hash: u64, key: &[u8], answer: Arc<Answer>, now: i64) {
        let life = i64::from(answer.lifetime()) * 1000;
        self.put(hash, key, answer, now, now + life, now);
    }

    /// `stored` and `expires` may lie in the past of what is loaded.
    pub(super) fn put(
        &mut self,
        hash: u64,
        key: &[u8],
        answer: Arc<Answer>,
        stored: i64,
        expires: i64,
        now: i64,
    ) {
        let cost = BESIDE + key.len() + answer.cost();
        if answer.lifetime() == 0 || cost > self.room / SMALL_PART {
            return;
        }
        let (stale, worth) = (self.stale, is_worth(&answer));
        if let Some((slot, old)) = self.find(hash, key)
            && !worth
            && is_worth(&old)
            && slot.expires + stale > now
        {
            return;
        }
        self.statistics.inserted += 1;
        let fresh = Slot {
            hash,
            key: key.into(),
            answer: Some(answer),
            stored,
            expires,
            rest_until: i64::MIN,
            uses: 0,
            frequency: 0,
            refresh_asked: false,
            in_main: false,
            cost,
        };
        self.place(fresh);
        self.make_room(now);
    }

    /// In the place of the slot with the same hash, or as a new one.
    fn place(&mut self, mut fresh: Slot) {
        let at = self.table.get(&fresh.hash).copied();
        if let Some(old) = at.and_then(|at| self.slots.get_mut(at as usize)?.as_mut()) {
            self.statistics.bytes = self.statistics.bytes + fresh.cost as u64 - old.cost as u64;
            if !old.in_main {
                self.small_bytes = self.small_bytes + fresh.cost - old.cost;
            }
            (fresh.in_main, fresh.frequency) = (old.in_main, old.frequency);
            *old = fresh;
            return;
        }
        fresh.in_main = self.gone_set.remove(&fresh.hash);
        self.statistics.bytes += fresh.cost as u64;
        self.statistics.entries += 1;
        if !fresh.in_main {
            self.small_bytes += fresh.cost;
        }
        let (hash, in_main) = (fresh.hash, fresh.in_main);
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Some(fresh);
        }
        self.table.insert(hash, at);
        if in_main { &mut self.main } else { &mut self.small }.push_back(at);
    }

    /// After a failure: what is there may be given for a while without asking.
    pub(super) fn rest(&mut self, hash: u64, key: &[u8], now: i64) -> Option<(Arc<Answer>, Age)> {
        let (stale, rest) = (self.stale, self.rest);
        let (slot, answer) = self.find(hash, key)?;
        if !is_worth(&answer) || slot.expires + stale <= now {
            return None;
        }
        slot.rest_until = now + rest;
        let fresh = slot.expires > now;
        let age = if fresh {
            Age::Fresh(seconds(now - slot.stored))
        } else {
            Age::Stale
        };
        Some((answer, age))
    }

    pub(super) fn stale(&mut self, hash: u64, key: &[u8], now: i64) -> Option<Arc<Answer>> {
        let stale = self.stale;
        let (slot, answer) = self.find(hash, key)?;
        (is_worth(&answer) && slot.expires + stale > now).then_some(answer)
    }

    /// Forgets what is meant; how many.
    pub(super) fn forget(&mut self, is_meant: &impl Fn(&[u8]) -> bool) -> usize {
        self.forget_where(&|slot| is_meant(&slot.key))
    }

    /// Nobody is left alone any more, and no failure is given again.
    pub(super) fn forget_failures(&mut self) {
        for slot in self.slots.iter_mut().flatten() {
            slot.rest_until = i64::MIN;
        }
        self.forget_where(&|slot| slot.answer.as_ref().is_some_and(|answer| !is_worth(answer)));
    }

    fn forget_where(&mut self, is_meant: &impl Fn(&Slot) -> bool) -> usize {
        let mut count = 0;
        for slot in self.slots.iter_mut().flatten() {
            if slot.answer.is_some() && is_meant(slot) {
                slot.answer = None;
                // until its turn comes it takes the room of a slot only
                let freed = slot.cost - BESIDE;
                (slot.key, slot.cost) = (Box::default(), BESIDE);
                self.statistics.bytes -= freed as u64;
                if !slot.in_main {
                    self.small_bytes -= freed;
                }
                self.statistics.entries -= 1;
                self.table.remove(&slot.hash);
                count += 1;
            }
        }
        count
    }

    pub(super) fn live(&self) -> impl Iterator<Item = (&Slot, &Arc<Answer>)> {
        self.slots
            .iter()
            .flatten()
            .filter_map(|slot| Some((slot, slot.answer.as_ref()?)))
    }

    /// For how many milliseconds after its life an answer may be given.
    pub(super) fn stale_bound(&self) -> i64 {
        self.stale
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.statistics
    }

    fn find(&mut self, hash: u64, key: &[u8]) -> Option<(&mut Slot, Arc<Answer>)> {
        let at = *self.table.get(&hash)?;
        let slot = self.slots.get_mut(at as usize)?.as_mut()?;
        let answer = Arc::clone(slot.answer.as_ref()?);
        (*slot.key == *key).then_some((slot, answer))
    }

    fn make_room(&mut self, now: i64) {
        while self.statistics.bytes > self.room as u64 {
            let from_small = self.small_bytes > self.room / SMALL_PART || self.main.is_empty();
            let went = if from_small {
                self.turn_small(now)
            } else {
                self.turn_main(now)
            };
            if !went {
                return;
            }
        }
    }

    /// The oldest of the small queue moves on, or goes. Whether there was one.
    fn turn_small(&mut self, now: i64) -> bool {
        let stale = self.stale;
        let Some(at) = self.small.pop_front() else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(at as usize).and_then(Option::as_mut) else {
            return true;
        };
        let alive = slot.answer.is_some() && slot.expires + stale > now;
        self.small_bytes -= slot.cost;
        if alive && slot.frequency >= PROVEN {
            (slot.frequency, slot.in_main) = (0, true);
            self.main.push_back(at);
            return true;
        }
        let hash = slot.hash;
        if alive {
            self.remember(hash);
        }
        self.remove(at);
        true
    }

    /// The oldest of the main queue goes round once more for each time that it was used, or goes. Whether there was one.
    fn turn_main(&mut self, now: i64) -> bool {
        let stale = self.stale;
        let Some(at) = self.main.pop_front() else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(at as usize).and_then(Option::as_mut) else {
            return true;
        };
        let alive = slot.answer.is_some() && slot.expires + stale > now;
        if alive && slot.frequency > 0 {
            slot.frequency -= 1;
            self.main.push_back(at);
            return true;
        }
        self.remove(at);
        true
    }

    fn remove(&mut self, at: u32) {
        let Some(slot) = self.slots.get_mut(at as usize).and_then(Option::take) else {
            return;
        };
        self.free.push(at);
        self.statistics.bytes -= slot.cost as u64;
        if slot.answer.is_some() {
            self.table.remove(&slot.hash);
            self.statistics.entries -= 1;
            self.statistics.evicted += 1;
        }
    }

    /// As many names gone as there are entries, at least a few.
    fn remember(&mut self, hash: u64) {
        if self.gone_set.insert(hash) {
            self.gone.push_back(hash);
        }
        while self.gone.len() > self.table.len().max(64) {
            if let Some(oldest) = self.gone.pop_front() {
                self.gone_set.remove(&oldest);
            }
        }
    }
}
