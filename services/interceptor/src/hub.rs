//! Where events fan out: gRPC subscribers at full rate, the desktop bus in batches, and the list of live connections.
//!
//! Invariant: a subscriber that does not read costs bounded memory and nobody's time; what it misses is counted, and told
//! to it with the next batch that it gets. Every event has a number; the [`Journal`] carries numbers, recent events and live
//! connections over a restart.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daemon::{metrics::STAGE, status::Status};
use proto::interceptor::v1::{ConnectionEvent, ConnectionEvents, EventKind as WireKind, Position};
use tokio::sync::mpsc;

use crate::{
    ahead::Journaled,
    journal::Journal,
    judge::{Connection, Event, EventKind},
    traces::traces,
    wire,
};

/// Batches that wait for one subscriber.
const SUBSCRIBER_BATCHES: usize = 256;
/// Events in one batch, and connections in one message of a list.
pub const BATCH: usize = 256;

/// Events so close to each other are told together.
const TOGETHER: Duration = Duration::from_millis(2);

/// Events that a subscriber can go back to.
const RECENT: usize = 8192;

/// Shared by the task that feeds it and the services that read it.
#[derive(Clone, Debug)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    live: HashMap<u64, Connection>,
    subscribers: Vec<Subscriber>,
    /// Behind the last event.
    position: Position,
    recent: Recent,
    journal: Option<Journal>,
    journaled: Journaled,
}

#[derive(Debug)]
struct Subscriber {
    batches: mpsc::Sender<ConnectionEvents>,
    dropped: u64,
}

impl Hub {
    /// With what the journal of an earlier process tells, if there is one, and what that process wrote down `ahead` of it.
    /// `numbering`: of a new one.
    pub fn new(
        journal: Option<(Journal, Vec<ConnectionEvents>)>,
        ahead: Vec<ConnectionEvents>,
        numbering: u64,
    ) -> Self {
        let mut inner = Inner {
            live: HashMap::new(),
            subscribers: Vec::new(),
            position: Position {
                numbering,
                sequence: 0,
            },
            recent: Recent::default(),
            journal: None,
            journaled: Journaled::default(),
        };
        if let Some((journal, records)) = journal {
            let is_new = records.is_empty();
            inner.replay(records);
            inner.journal = Some(journal);
            if is_new {
                // the list that it begins with: nothing lives yet
                inner.write(&inner.record(Vec::new()));
            } else {
                inner.catch_up(ahead);
            }
        }
        inner.journaled.is(inner.position.sequence);
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Takes events until all senders are gone; `publish` gets each of them for the desktop bus.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, status: Status, publish: impl Fn(&Event)) {
        let dropped = status.counter("subscriber_events_dropped");
        let stage = status.histogram(STAGE, &[("portmaster.stage", "publish")]);
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            dropped.add(self.take(&batch));
            for event in batch.iter().filter(|event| event.kind == EventKind::Decided) {
                stage.record(event.time.elapsed().unwrap_or_default());
            }
            batch.iter().for_each(&publish);
            if let Some(traces) = traces() {
                traces.told(&batch);
            }
            batch.clear();
            // under load one wake-up tells many events: the processor is the packet path's
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Events that subscribers lost.
    fn take(&self, batch: &[Event]) -> u64 {
        let mut inner = self.lock();
        for event in batch {
            inner.remember(event);
        }
        inner.tell(batch)
    }

    /// A new subscriber. It goes on behind `resume_after` if that is a place in this numbering; else it begins with the live
    /// connections if it wants.
    pub fn subscribe(
        &self,
        include_live: bool,
        resume_after: Option<Position>,
    ) -> mpsc::Receiver<ConnectionEvents> {
        let (batches, receiver) = mpsc::channel(SUBSCRIBER_BATCHES);
        let mut inner = self.lock();
        let mut subscriber = Subscriber { batches, dropped: 0 };
        match resume_after.filter(|place| place.numbering == inner.position.numbering) {
            Some(place) => {
                let (dropped, missed) = inner.recent.since(place.sequence, inner.position.sequence);
                subscriber.dropped = dropped;
                for (chunk, sequence) in missed {
                    subscriber.deliver(chunk, Some(inner.place(sequence)));
                }
            }
            None if include_live => {
                for chunk in inner.sorted_live().chunks(BATCH) {
                    let events = chunk.iter().map(|connection| wire::live(connection)).collect();
                    subscriber.deliver(events, None);
                }
            }
            None => {}
        }
        // whoever goes away before the first event knows where it was
        subscriber.deliver(Vec::new(), Some(inner.position));
        inner.subscribers.push(subscriber);
        receiver
    }

    /// Behind the last event: where the events to come are numbered from.
    pub fn position(&self) -> Position {
        self.lock().position
    }

    /// How far the journal has come.
    pub fn journaled(&self) -> Journaled {
        self.lock().journaled.clone()
    }

    /// The live connections, oldest first.
    pub fn live(&self) -> Vec<Connection> {
        self.lock().sorted_live().into_iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // nothing in here is left half done by a panic
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The first record lists the connections that lived then; each other one is a batch of events.
    fn replay(&mut self, records: Vec<ConnectionEvents>) {
        for (number, record) in records.into_iter().enumerate() {
            self.position = record.position.unwrap_or(self.position);
            for event in &record.events {
                self.relive(event);
            }
            if number > 0 {
                self.recent.push(record.events, self.position.sequence);
            }
        }
    }

    /// What was written down ahead, and not yet in the journal.
    fn catch_up(&mut self, ahead: Vec<ConnectionEvents>) {
        for record in ahead {
            let Some(position) = record.position else { continue };
            let behind = position.sequence.saturating_sub(self.position.sequence);
            let behind = usize::try_from(behind).unwrap_or(usize::MAX);
            if position.numbering != self.position.numbering || behind == 0 {
                continue;
            }
            let mut events = record.events;
            if behind > events.len() {
                // some were not written down: nobody can go on before these
                self.recent = Recent::default();
            }
            events.drain(..events.len().saturating_sub(behind));
            for event in &events {
                self.relive(event);
            }
            self.position = position;
            self.write(&self.record(events.clone()));
            self.recent.push(events, position.sequence);
        }
    }

    fn relive(&mut self, event: &ConnectionEvent) {
        let Some(connection) = event.connection.clone() else {
            return;
        };
        if event.kind() == WireKind::Ended {
            self.live.remove(&connection.id);
            return;
        }
        match wire::restored(connection) {
            Ok(connection) if connection.decision.verdict.passes() => {
                self.live.insert(connection.id, connection);
            }
            Ok(connection) => {
                self.live.remove(&connection.id);
            }
            Err(error) => tracing::warn!(%error, "a connection in the journal makes no sense"),
        }
    }

    /// Refused connections never lived.
    fn remember(&mut self, event: &Event) {
        let connection = &event.connection;
        if event.kind == EventKind::Ended || !connection.decision.verdict.passes() {
            self.live.remove(&connection.id);
        } else {
            self.live.insert(connection.id, connection.clone());
        }
    }

    fn tell(&mut self, batch: &[Event]) -> u64 {
        self.position.sequence += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        self.subscribers
            .retain(|subscriber| !subscriber.batches.is_closed());
        if self.subscribers.is_empty() && self.journal.is_none() {
            // nobody was there: nobody can come back
            self.recent = Recent::default();
            return 0;
        }
        let record = self.record(batch.iter().map(wire::event).collect());
        self.write(&record);
        if self.journal.is_some() {
            self.journaled.is(self.position.sequence);
        }
        let ConnectionEvents { events, position, .. } = record;
        let lost = self
            .subscribers
            .iter_mut()
            .map(|subscriber| subscriber.deliver(events.clone(), position))
            .sum();
        self.recent.push(events, self.position.sequence);
        if self.journal.as_ref().is_some_and(Journal::is_long) {
            self.write_anew();
        }
        lost
    }

    const fn record(&self, events: Vec<ConnectionEvent>) -> ConnectionEvents {
        ConnectionEvents {
            events,
            dropped: 0,
            position: Some(self.position),
        }
    }

    fn write(&mut self, record: &ConnectionEvents) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        if let Err(error) = journal.write(record) {
            tracing::warn!(%error, "the journal cannot be written: a restart forgets the live connections");
            self.journal = None;
        }
    }

    /// A list of what lives before the recent events, then those.
    fn write_anew(&mut self) {
        let recent = self.recent.batches();
        let before = self.recent.begins_behind().unwrap_or(self.position.sequence);
        let list = ConnectionEvents {
            events: self.sorted_live().into_iter().map(wire::live).collect(),
            dropped: 0,
            position: Some(self.place(before)),
        };
        let records = recent.map(|(events, sequence)| ConnectionEvents {
            events: events.clone(),
            dropped: 0,
            position: Some(self.place(*sequence)),
        });
        let shorter = self
            .journal
            .as_ref()
            .and_then(|journal| journal.shortened(std::iter::once(list).chain(records)));
        if shorter.is_some() {
            self.journal = shorter;
        }
    }

    fn sorted_live(&self) -> Vec<&Connection> {
        let mut live: Vec<_> = self.live.values().collect();
        live.sort_by_key(|connection| connection.id);
        live
    }

    const fn place(&self, sequence: u64) -> Position {
        Position {
            numbering: self.position.numbering,
            sequence,
        }
    }
}

/// The last events, as batches with the number of their last one.
#[derive(Debug, Default)]
struct Recent {
    batches: VecDeque<(Vec<ConnectionEvent>, u64)>,
    events: usize,
}

impl Recent {
    fn push(&mut self, events: Vec<ConnectionEvent>, sequence: u64) {
        self.events += events.len();
        self.batches.push_back((events, sequence));
        while self.events > RECENT
            && let Some((oldest, _)) = self.batches.pop_front()
        {
            self.events -= oldest.len();
        }
    }

    fn batches(&self) -> impl Iterator<Item = &(Vec<ConnectionEvent>, u64)> {
        self.batches.iter()
    }

    /// The number of the last event that is no longer here.
    fn begins_behind(&self) -> Option<u64> {
        let (events, last) = self.batches.front()?;
        Some(last.saturating_sub(u64::try_from(events.len()).unwrap_or(0)))
    }

    /// Events behind `place` in messages of a good size, each with the number of its last one; and how many of them are no longer known.
    fn since(&self, place: u64, now: u64) -> (u64, Vec<(Vec<ConnectionEvent>, u64)>) {
        let begins = self.begins_behind().unwrap_or(now);
        let dropped = begins.saturating_sub(place);
        let skip = usize::try_from(place.saturating_sub(begins)).unwrap_or(usize::MAX);
        let missed: Vec<&ConnectionEvent> = self
            .batches
            .iter()
            .flat_map(|(events, _)| events)
            .skip(skip)
            .collect();
        let mut sequence = begins.max(place);
        let messages = missed.chunks(BATCH).map(|chunk| {
            sequence += u64::try_from(chunk.len()).unwrap_or(0);
            (chunk.iter().map(|event| (*event).clone()).collect(), sequence)
        });
        (dropped, messages.collect())
    }
}

impl Subscriber {
    fn deliver(&mut self, events: Vec<ConnectionEvent>, position: Option<Position>) -> u64 {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        match self.batches.try_send(ConnectionEvents {
            events,
            dropped: self.dropped,
            position,
        }) {
            Ok(()) => {
                self.dropped = 0;
                0
            }
            Err(_) => {
                self.dropped += count;
                count
            }
        }
    }
}

#[cfg(test)]
pub(crate) use tests::decided as test_event;

#[cfg(test)]
mod tests;
