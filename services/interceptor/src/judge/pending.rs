//! Flows whose process is being asked for, with the packets that wait for it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use verdict::Flow;

use super::{Question, flows::Key};

/// A packet in the kernel's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Index of its queue.
    pub queue: usize,
    /// Its id there.
    pub id: u32,
    /// The mark that it came with.
    pub mark: u32,
}

/// A flow that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) flow: Flow,
    pub(super) uid: Option<u32>,
    /// Of the SYN that opened it.
    pub(super) initial_sequence: Option<u32>,
    /// Its first packet carries data already: it is not the beginning, no name will be said any more.
    pub(super) payload: bool,
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    request_id: u64,
    waiting: Vec<Waiting>,
}

/// Entries are in `flows`; `by_request` and `deadlines` point to them. All flows get the same time, so that `deadlines` is
/// sorted by itself; what is answered stays in it until its time comes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    flows: HashMap<Key, Entry>,
    by_request: HashMap<u64, Key>,
    deadlines: VecDeque<(Duration, u64)>,
    by_uid: HashMap<Option<u32>, usize>,
    last_request: u64,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Flows of one user that wait: one user's flood must not push the others out.
    pub(super) fn of_uid(&self, uid: Option<u32>) -> usize {
        self.by_uid.get(&uid).copied().unwrap_or(0)
    }

    /// Lets a packet wait with its flow. `None`: that flow is not pending; `Some(true)`: too many wait already.
    pub(super) fn join(&mut self, key: &Key, waiting: Waiting, most: usize) -> Option<bool> {
        let entry = self.flows.get_mut(key)?;
        let full = entry.waiting.len() >= most;
        if !full {
            entry.waiting.push(waiting);
        }
        Some(full)
    }

    pub(super) fn insert(
        &mut self,
        asked: Asked,
        waiting: Waiting,
        deadline: Duration,
        hash: bool,
    ) -> Question {
        self.last_request += 1;
        let request_id = self.last_request;
        let key = Key::of(&asked.flow);
        self.by_request.insert(request_id, key);
        self.deadlines.push_back((deadline, request_id));
        *self.by_uid.entry(asked.uid).or_default() += 1;
        self.flows.insert(
            key,
            Entry {
                asked,
                request_id,
                waiting: vec![waiting],
            },
        );
        Question {
            request_id,
            flow: asked.flow,
            uid: asked.uid,
            hash,
        }
    }

    /// Everything that waits, to be asked again.
    pub(super) fn questions(&self, hash: bool) -> impl Iterator<Item = Question> {
        self.flows.values().map(move |entry| Question {
            request_id: entry.request_id,
            flow: entry.asked.flow,
            uid: entry.asked.uid,
            hash,
        })
    }

    pub(super) fn take(&mut self, request_id: u64) -> Option<(Asked, Vec<Waiting>)> {
        let key = self.by_request.remove(&request_id)?;
        let entry = self.flows.remove(&key)?;
        if let Some(count) = self.by_uid.get_mut(&entry.asked.uid) {
            *count -= 1;
            if *count == 0 {
                self.by_uid.remove(&entry.asked.uid);
            }
        }
        // answered from the front, as is usual: the queue of deadlines stays as short as what waits
        while self
            .deadlines
            .front()
            .is_some_and(|(_, request)| !self.by_request.contains_key(request))
        {
            self.deadlines.pop_front();
        }
        Some((entry.asked, entry.waiting))
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// The next flow whose time is over.
    pub(super) fn take_late(&mut self, now: Duration) -> Option<(Asked, Vec<Waiting>)> {
        while let Some((deadline, request_id)) = self.deadlines.front().copied() {
            if deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if let Some(taken) = self.take(request_id) {
                return Some(taken);
            }
        }
        None
    }
}
