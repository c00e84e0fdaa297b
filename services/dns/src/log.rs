//! What was asked and what became of it: the last queries, and everybody who follows them.
//!
//! Invariant: writing costs the same whoever follows; who reads too slowly loses the oldest, and is told how many. Nothing is
//! made of a query, and nobody woken, but for a follower that waits.

mod query;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::dns::v1::QueryEvents;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub use query::{Matter, Origin, Query};

use crate::wire;

/// Queries that are remembered.
const MOST: usize = 8192;
/// Queries in one message.
const BATCH: usize = 256;
/// Queries so close to each other are told together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Messages that wait for one subscriber.
const WAITING: usize = 16;

/// Where a follower begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the next query.
    Now,
    /// With the oldest that is remembered.
    Recent,
    /// Behind a place that this log or one before it told.
    Behind(Place),
}

/// A place between two queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of this log: another one has another.
    pub numbering: u64,
    /// How many queries there were by then.
    pub sequence: u64,
}

/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    numbering: u64,
    last: Mutex<Last>,
    more: Notify,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            numbering: rand::random(),
            last: Mutex::default(),
            more: Notify::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Last {
    queries: VecDeque<Query>,
    /// A follower has read all, and waits.
    awaited: bool,
    /// How many there ever were.
    count: u64,
    /// The same by where the answer came from, in the order of [`Origin::ALL`].
    by_origin: [u64; 6],
}

impl Last {
    fn push(&mut self, query: Query) {
        if self.queries.len() >= MOST {
            self.queries.pop_front();
        }
        if let Some(count) = self.by_origin.get_mut(query.origin as usize) {
            *count += 1;
        }
        self.queries.push_back(query);
        self.count += 1;
    }

    /// The number of the oldest that is remembered.
    fn begins(&self) -> u64 {
        self.count - u64::try_from(self.queries.len()).unwrap_or(self.count)
    }
}

impl Log {
    /// Never waits.
    pub fn write(&self, queries: impl IntoIterator<Item = Query>) {
        let mut last = self.lock();
        queries.into_iter().for_each(|query| last.push(query));
        let awaited = std::mem::take(&mut last.awaited);
        drop(last);
        if awaited {
            self.0.more.notify_waiters();
        }
    }

    /// How many there were, by where their answer came from.
    pub fn counts(&self) -> impl Iterator<Item = (Origin, u64)> {
        Origin::ALL.into_iter().zip(self.lock().by_origin)
    }

    /// Follows from there on.
    pub fn follow(&self, start: Start) -> Follower {
        let last = self.lock();
        let (next, lost) = match start {
            Start::Now => (last.count, 0),
            Start::Recent => (last.begins(), 0),
            // a place that there is
            Start::Behind(place) if place.numbering == self.0.numbering && place.sequence <= last.count => {
                (place.sequence, 0)
            }
            // of another log: how much was lost since nobody knows; it is not nothing
            Start::Behind(_) => (last.begins(), 1),
        };
        Follower {
            log: self.clone(),
            next,
            lost,
        }
    }

    /// Messages for a subscriber over gRPC, until it goes away or `shutdown`.
    pub fn subscribe(&self, start: Start, shutdown: CancellationToken) -> mpsc::Receiver<QueryEvents> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut follower = self.follow(start);
        tokio::spawn(shutdown.run_until_cancelled_owned(async move {
            // where it begins: whoever hears nothing more can still go on from there
            let mut message = QueryEvents {
                position: Some(wire::position(follower.place())),
                ..QueryEvents::default()
            };
            while sender.send(message).await.is_ok() {
                tokio::time::sleep(TOGETHER).await;
                let (first, queries, dropped) = follower.next(BATCH).await;
                let queries = queries
                    .iter()
                    .zip(first..)
                    .map(|(query, id)| wire::query(id, query))
                    .collect();
                message = QueryEvents {
                    queries,
                    dropped,
                    position: Some(wire::position(follower.place())),
                };
            }
        }));
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Last> {
        // nothing in here is left half done by a panic
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a [`Log`] at its own pace.
#[derive(Debug)]
pub struct Follower {
    log: Log,
    next: u64,
    /// Before it began.
    lost: u64,
}

impl Follower {
    /// Behind what was read last.
    pub fn place(&self) -> Place {
        Place {
            numbering: self.log.0.numbering,
            sequence: self.next,
        }
    }

    /// Waits for queries; gives the number of the first of them, all up to `most`, and how many were lost before it. Where this is
    /// given up, nothing is lost.
    pub async fn next(&mut self, most: usize) -> (u64, Vec<Query>, u64) {
        loop {
            let log = self.log.clone();
            // armed before the look, so that nothing falls between
            let mut more = std::pin::pin!(log.0.more.notified());
            more.as_mut().enable();
            if let Some(read) = self.read(most) {
                return read;
            }
            more.await;
        }
    }

    fn read(&mut self, most: usize) -> Option<(u64, Vec<Query>, u64)> {
        let mut last = self.log.lock();
        let begins = last.begins();
        let dropped = begins.saturating_sub(self.next) + self.lost;
        let first = self.next.max(begins);
        let skip = usize::try_from(first - begins).unwrap_or(usize::MAX);
        let queries: Vec<_> = last.queries.iter().skip(skip).take(most).cloned().collect();
        if queries.is_empty() {
            last.awaited = true;
            return None;
        }
        self.next = first + u64::try_from(queries.len()).unwrap_or(0);
        self.lost = 0;
        Some((first, queries, dropped))
    }
}

#[cfg(test)]
mod tests;
