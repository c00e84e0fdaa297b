//! Connections whose SYN waits for the far end's answer.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use verdict::{Decision, policy::TunnelOptions};

use super::{Carrying, Connection, Now, Waiting, flows::Key, pending::Asked, tunnel::Concluded};

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    pub(super) asked: Asked,
    /// What it will be, where the far end agrees.
    pub(super) concluded: Concluded,
    /// How it is to travel, by the policy that concluded it.
    pub(super) options: TunnelOptions,
    pub(super) waiting: Vec<Waiting>,
}

impl Opening {
    /// As the entry hears of it.
    pub(super) fn carrying(&self, now: Now) -> Carrying {
        Carrying {
            connection: self.connection(now),
            options: self.options.clone(),
        }
    }

    fn connection(&self, now: Now) -> Connection {
        let Concluded {
            who,
            decision,
            domains,
            id,
            ..
        } = &self.concluded;
        Connection {
            id: id.unwrap_or_default(),
            flow: self.asked.flow,
            scope: self.asked.flow.scope(),
            started: now.wall,
            who: who.clone(),
            domain: domains.first().cloned(),
            decision: decision.clone(),
            totals: None,
            through: None,
        }
    }
}

/// The entry of Gate17, as far as known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Entry {
    /// This process has just begun, or the entry's stream has just ended: nobody knows yet.
    #[default]
    Unknown,
    /// Its stream is open.
    There,
    /// It cannot be reached.
    Gone,
}

/// By request, and by flow. All get the same time, so that `deadlines` is sorted by itself; what is answered stays in it until
/// it is come across.
#[derive(Debug, Default)]
pub(super) struct Openings {
    entry: Entry,
    openings: HashMap<u64, Opening>,
    requests: HashMap<Key, u64>,
    by_uid: HashMap<Option<u32>, usize>,
    deadlines: VecDeque<(Duration, u64)>,
    last_request: u64,
}

impl Openings {
    pub(super) const fn entry(&self) -> Entry {
        self.entry
    }

    pub(super) const fn set_entry(&mut self, entry: Entry) {
        self.entry = entry;
    }

    pub(super) fn len(&self) -> usize {
        self.openings.len()
    }

    pub(super) fn of_uid(&self, uid: Option<u32>) -> usize {
        self.by_uid.get(&uid).copied().unwrap_or(0)
    }

    /// Gives the number of the request. There is no other one of this flow.
    pub(super) fn insert(&mut self, opening: Opening, deadline: Duration) -> u64 {
        self.last_request += 1;
        let request_id = self.last_request;
        *self.by_uid.entry(opening.asked.uid).or_default() += 1;
        let before = self.requests.insert(Key::of(&opening.asked.flow), request_id);
        debug_assert!(before.is_none(), "its packets would be forgotten");
        self.deadlines.push_back((deadline, request_id));
        self.openings.insert(request_id, opening);
        request_id
    }

    pub(super) fn get(&self, request_id: u64) -> Option<&Opening> {
        self.openings.get(&request_id)
    }

    pub(super) fn asked(&self, key: &Key) -> Option<Asked> {
        let request_id = self.requests.get(key)?;
        self.get(*request_id).map(|opening| opening.asked)
    }

    pub(super) fn set_decision(&mut self, request_id: u64, decision: Decision) {
        if let Some(opening) = self.openings.get_mut(&request_id) {
            opening.concluded.decision = decision;
        }
    }

    pub(super) fn take(&mut self, request_id: u64) -> Option<Opening> {
        let opening = self.openings.remove(&request_id)?;
        self.requests.remove(&Key::of(&opening.asked.flow));
        if let Some(count) = self.by_uid.get_mut(&opening.asked.uid) {
            *count -= 1;
            if *count == 0 {
                self.by_uid.remove(&opening.asked.uid);
            }
        }
        while let Some((_, oldest)) = self.deadlines.front()
            && !self.openings.contains_key(oldest)
        {
            self.deadlines.pop_front();
        }
        Some(opening)
    }

    pub(super) fn take_key(&mut self, key: &Key) -> Option<(u64, Opening)> {
        let request_id = *self.requests.get(key)?;
        self.take(request_id).map(|opening| (request_id, opening))
    }

    /// All of them, oldest first.
    pub(super) fn requests(&self) -> Vec<u64> {
        let mut requests: Vec<u64> = self.openings.keys().copied().collect();
        requests.sort_unstable();
        requests
    }

    /// Those of processes that the resolver calls so.
    pub(super) fn of_processes(&self, keys: &[u64]) -> Vec<Key> {
        if keys.is_empty() {
            return Vec::new();
        }
        let theirs = |opening: &&Opening| {
            let who = &opening.concluded.who;
            who.process.is_some() && keys.contains(&who.key)
        };
        let openings = self.openings.values().filter(theirs);
        openings.map(|opening| Key::of(&opening.asked.flow)).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// One whose time is over; it is to be taken.
    pub(super) fn next_late(&self, now: Duration) -> Option<u64> {
        let (deadline, request_id) = self.deadlines.front()?;
        (*deadline <= now).then_some(*request_id)
    }
}
