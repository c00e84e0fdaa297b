//! Flows whose process is being asked for, with the packets that wait for it; and those whose process is known and whose
//! opener has said but a part of its hello.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use verdict::{Flow, packet::Hook, sniff::Sniffed};

use super::{Attribution, Question, flows::Key, said::Said};
use crate::conntrack::Way;

/// A packet in the kernel's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Index of its queue.
    pub queue: usize,
    /// Its id there.
    pub id: u32,
    /// The mark that it came with.
    pub mark: u32,
    /// Which chain queued it.
    pub hook: Hook,
}

/// A flow that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) flow: Flow,
    pub(super) uid: Option<u32>,
    /// Where its packets go already.
    pub(super) way: Way,
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
    /// The question is out.
    out: bool,
    said: Said,
    /// Known: it waits for the rest of what its opener says.
    who: Option<Arc<Attribution>>,
}

/// What became of a packet of a flow that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// It waits with the others.
    Waits,
    /// Too many wait, or there is no room for what it says.
    Full,
    /// It waits, and what it says may be all that was missing; by request.
    Heard(u64),
}

/// Flows of one user.
#[derive(Debug, Default)]
struct Share {
    count: usize,
    /// Oldest first; what is answered stays until it is come across.
    order: VecDeque<u64>,
}

/// A flow that is done with waiting.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) asked: Asked,
    pub(super) waiting: Vec<Waiting>,
    /// Its question was out.
    pub(super) was_out: bool,
    pub(super) said: Said,
    /// See [`Pending::hold`].
    pub(super) who: Option<Arc<Attribution>>,
}

/// Octets of hellos that are kept at once.
const MOST_SAID: usize = 8 << 20;

/// Entries are in `flows`; all else points to them. All flows get the same time, so that `deadlines` is sorted by itself;
/// what is answered stays in it until its time comes.
///
/// Only so many questions are out at once. Of those that are not, the newest goes next: under a flood, old questions would
/// be answered too late all, and new ones in time.
#[derive(Debug, Default)]
pub(super) struct Pending {
    flows: HashMap<Key, Entry>,
    by_request: HashMap<u64, Key>,
    deadlines: VecDeque<(Duration, u64)>,
    by_uid: HashMap<Option<u32>, Share>,
    /// Not asked yet, newest last.
    unasked: Vec<u64>,
    out: usize,
    last_request: u64,
    /// Octets of what was said, of all.
    said: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Flows of one user that wait.
    pub(super) fn of_uid(&self, uid: Option<u32>) -> usize {
        self.by_uid.get(&uid).map_or(0, |share| share.count)
    }

    /// Lets a packet wait with its flow. `None`: that flow is not pending.
    pub(super) fn join(
        &mut self,
        key: &Key,
        waiting: Waiting,
        most: usize,
        said: Option<&[u8]>,
    ) -> Option<Joined> {
        let room = self.has_room_for(said);
        let entry = self.flows.get_mut(key)?;
        if entry.waiting.len() >= most || !room || said.is_some_and(|datagram| !entry.said.add(datagram)) {
            return Some(Joined::Full);
        }
        entry.waiting.push(waiting);
        let Some(datagram) = said else {
            return Some(Joined::Waits);
        };
        self.said += datagram.len();
        Some(match entry.who {
            Some(_) => Joined::Heard(entry.request_id),
            None => Joined::Waits,
        })
    }

    /// A packet that says so much can wait.
    pub(super) fn has_room_for(&self, said: Option<&[u8]>) -> bool {
        said.is_none_or(|datagram| self.said + datagram.len() <= MOST_SAID)
    }

    /// A flow begins to wait. What is to be asked next: [`Self::next_question`].
    pub(super) fn insert(&mut self, asked: Asked, waiting: Waiting, said: Said, deadline: Duration) {
        let request_id = self.add(asked, vec![waiting], said, None, deadline);
        self.unasked.push(request_id);
    }

    /// A flow whose process is known waits on, for the rest of what its opener says.
    pub(super) fn hold(&mut self, taken: Taken, who: Arc<Attribution>, deadline: Duration) {
        self.add(taken.asked, taken.waiting, taken.said, Some(who), deadline);
    }

    fn add(
        &mut self,
        asked: Asked,
        waiting: Vec<Waiting>,
        said: Said,
        who: Option<Arc<Attribution>>,
        deadline: Duration,
    ) -> u64 {
        self.last_request += 1;
        let request_id = self.last_request;
        let key = Key::of(&asked.flow);
        self.by_request.insert(request_id, key);
        self.deadlines.push_back((deadline, request_id));
        let share = self.by_uid.entry(asked.uid).or_default();
        share.count += 1;
        share.order.push_back(request_id);
        self.said += said.octets();
        let entry = Entry {
            asked,
            request_id,
            waiting,
            out: false,
            said,
            who,
        };
        self.flows.insert(key, entry);
        request_id
    }

    /// The name that the opener of a flow has said so far.
    pub(super) fn name(&self, request_id: u64) -> Sniffed {
        let entry = self
            .by_request
            .get(&request_id)
            .and_then(|key| self.flows.get(key));
        entry.map_or(Sniffed::None, |entry| entry.said.name())
    }

    /// The newest question that is not out, while fewer than `most` are.
    pub(super) fn next_question(&mut self, most: usize, hash: bool) -> Option<Question> {
        while self.out < most {
            let request_id = self.unasked.pop()?;
            let Some(entry) = self
                .by_request
                .get(&request_id)
                .and_then(|key| self.flows.get_mut(key))
            else {
                continue;
            };
            entry.out = true;
            self.out += 1;
            return Some(Question {
                request_id,
                flow: entry.asked.flow,
                uid: entry.asked.uid,
                hash,
            });
        }
        None
    }

    /// This answer takes longer: others need not wait for it.
    pub(super) fn takes_longer(&mut self, request_id: u64) {
        let entry = self
            .by_request
            .get(&request_id)
            .and_then(|key| self.flows.get_mut(key));
        if let Some(entry) = entry.filter(|entry| entry.out) {
            entry.out = false;
            self.out -= 1;
        }
    }

    /// Nobody will answer what is out: everything is to be asked again.
    pub(super) fn forget_questions(&mut self) {
        let unknown = self.flows.values().filter(|entry| entry.who.is_none());
        self.unasked = unknown.map(|entry| entry.request_id).collect();
        self.unasked.sort_unstable();
        self.flows.values_mut().for_each(|entry| entry.out = false);
        self.out = 0;
    }

    pub(super) fn take(&mut self, request_id: u64) -> Option<Taken> {
        let key = self.by_request.remove(&request_id)?;
        let entry = self.flows.remove(&key)?;
        debug_assert_eq!(entry.request_id, request_id);
        self.out -= usize::from(entry.out);
        self.said -= entry.said.octets();
        if let Some(share) = self.by_uid.get_mut(&entry.asked.uid) {
            share.count -= 1;
            if share.count == 0 {
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
        Some(Taken {
            asked: entry.asked,
            waiting: entry.waiting,
            was_out: entry.out,
            said: entry.said,
            who: entry.who,
        })
    }

    /// The oldest flow of a user, to make room. Not one whose question is out: its answer is on its way, and the resolver is
    /// not asked more because somebody gave up.
    pub(super) fn take_oldest(&mut self, uid: Option<u32>) -> Option<Taken> {
        while let Some(request_id) = self.by_uid.get_mut(&uid)?.order.pop_front() {
            let entry = self
                .by_request
                .get(&request_id)
                .and_then(|key| self.flows.get(key));
            if entry.is_some_and(|entry| !entry.out) {
                return self.take(request_id);
            }
        }
        None
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// The next flow whose time is over.
    pub(super) fn take_late(&mut self, now: Duration) -> Option<Taken> {
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
