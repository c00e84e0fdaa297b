//! Where events fan out: gRPC subscribers at full rate, the desktop bus in batches, and the list of live connections.
//!
//! Invariant: a subscriber that does not read costs bounded memory and nobody's time; what it misses is counted, and told
//! to it with the next batch that it gets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daemon::status::Status;
use proto::interceptor::v1::{ConnectionEvent, ConnectionEvents};
use tokio::sync::mpsc;

use crate::{
    judge::{Connection, Event, EventKind},
    wire,
};

/// Batches that wait for one subscriber.
const SUBSCRIBER_BATCHES: usize = 256;
/// Events in one batch, and connections in one message of a list.
pub const BATCH: usize = 256;

/// Events so close to each other are told together.
const TOGETHER: Duration = Duration::from_millis(2);

/// Shared by the task that feeds it and the services that read it.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<u64, Connection>,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    batches: mpsc::Sender<ConnectionEvents>,
    dropped: u64,
}

impl Hub {
    /// Takes events until all senders are gone; `publish` gets each of them for the desktop bus.
    pub async fn run(self, mut events: mpsc::Receiver<Event>, status: Status, publish: impl Fn(&Event)) {
        let dropped = status.counter("subscriber_events_dropped");
        let mut batch = Vec::with_capacity(BATCH);
        while events.recv_many(&mut batch, BATCH).await > 0 {
            batch.iter().for_each(&publish);
            dropped.add(self.take(&batch));
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
        inner.deliver(batch)
    }

    /// A new subscriber, which begins with the live connections if it wants.
    pub fn subscribe(&self, include_live: bool) -> mpsc::Receiver<ConnectionEvents> {
        let (batches, receiver) = mpsc::channel(SUBSCRIBER_BATCHES);
        let mut inner = self.lock();
        let mut subscriber = Subscriber { batches, dropped: 0 };
        if include_live {
            let mut live: Vec<_> = inner.live.values().collect();
            live.sort_by_key(|connection| connection.id);
            for chunk in live.chunks(BATCH) {
                let events = chunk.iter().map(|connection| wire::live(connection)).collect();
                subscriber.deliver(events);
            }
        }
        inner.subscribers.push(subscriber);
        receiver
    }

    /// The live connections, oldest first.
    pub fn live(&self) -> Vec<Connection> {
        let mut live: Vec<_> = self.lock().live.values().cloned().collect();
        live.sort_by_key(|connection| connection.id);
        live
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // nothing in here is left half done by a panic
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Refused connections never lived.
    fn remember(&mut self, event: &Event) {
        let connection = &event.connection;
        if event.kind == EventKind::Ended || !connection.decision.verdict.passes() {
            self.live.remove(&connection.id);
        } else {
            self.live.insert(connection.id, connection.clone());
        }
    }

    fn deliver(&mut self, batch: &[Event]) -> u64 {
        self.subscribers
            .retain(|subscriber| !subscriber.batches.is_closed());
        if self.subscribers.is_empty() {
            return 0;
        }
        let events: Vec<ConnectionEvent> = batch.iter().map(wire::event).collect();
        self.subscribers
            .iter_mut()
            .map(|subscriber| subscriber.deliver(events.clone()))
            .sum()
    }
}

impl Subscriber {
    fn deliver(&mut self, events: Vec<ConnectionEvent>) -> u64 {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        match self.batches.try_send(ConnectionEvents {
            events,
            dropped: self.dropped,
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
