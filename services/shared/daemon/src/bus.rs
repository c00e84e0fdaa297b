//! The desktop bus: a name, a state that everyone may read, events in batches.
//!
//! Invariant: nobody in the service ever waits for the bus. It may be missing, come later, restart, or be stuck; events that
//! it cannot take are dropped, oldest first, and counted.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zbus::{Connection, MessageStream, interface, object_server::SignalEmitter};

use crate::{About, status::Status};

/// Between two batches.
const PAUSE: Duration = Duration::from_millis(50);
/// Events that wait; beyond it the oldest are dropped.
const MOST_WAITING: usize = 8192;
/// Events in one signal: well below the bus's limit for messages.
const MOST_IN_BATCH: usize = 512;
/// A bus that takes no message for so long is left, and joined anew.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const PROBLEM: &str = "bus-unreachable";

/// Events on their way to the bus.
#[derive(Debug)]
pub struct Publisher<T>(Arc<Queue<T>>);

#[derive(Debug)]
struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    more: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    events: VecDeque<T>,
    dropped: u64,
}

impl<T> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Publisher<T> {
    fn default() -> Self {
        let waiting = Mutex::new(Waiting {
            events: VecDeque::new(),
            dropped: 0,
        });
        Self(Arc::new(Queue {
            waiting,
            more: Notify::new(),
        }))
    }
}

impl<T> Publisher<T> {
    /// Never waits.
    pub fn push(&self, event: T) {
        let mut waiting = self.lock();
        if waiting.events.len() >= MOST_WAITING {
            waiting.events.pop_front();
            waiting.dropped += 1;
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.0.more.notify_one();
    }

    /// The next events, and how many were dropped before them. Waits for the first.
    pub async fn next_batch(&self) -> (Vec<T>, u64) {
        loop {
            let notified = self.0.more.notified();
            {
                let mut waiting = self.lock();
                let count = waiting.events.len().min(MOST_IN_BATCH);
                if count > 0 {
                    let dropped = std::mem::take(&mut waiting.dropped);
                    return (waiting.events.drain(..count).collect(), dropped);
                }
            }
            notified.await;
        }
    }

    /// These were taken and could not be sent.
    fn lost(&self, count: usize, dropped: u64) {
        self.lock().dropped += dropped + u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Sends batches by `emit`, at once when idle and every 50 ms under load, until one cannot be sent.
    pub async fn pump(&self, emit: impl AsyncFn(Vec<T>, u64) -> zbus::Result<()>) -> zbus::Result<()> {
        loop {
            let (events, dropped) = self.next_batch().await;
            let count = events.len();
            let sent = tokio::time::timeout(PATIENCE, emit(events, dropped)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.lost(count, dropped);
                return sent.unwrap_or(Err(zbus::Error::Failure("the bus takes no messages".into())));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A service's place on the bus.
#[derive(Clone, Debug)]
pub struct Desktop {
    name: String,
    path: String,
    status: Status,
    shutdown: CancellationToken,
}

impl Desktop {
    /// `process-resolver` is `org.portmaster.ProcessResolver1` at `/org/portmaster/ProcessResolver1`.
    pub fn new(about: About, status: Status, shutdown: CancellationToken) -> Self {
        let words = about.name.split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_uppercase() + rest
        });
        let word: String = words.collect();
        Self {
            name: format!("org.portmaster.{word}1"),
            path: format!("/org/portmaster/{word}1"),
            status,
            shutdown,
        }
    }

    /// The object path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The state alone.
    pub async fn serve_state(&self) {
        self.serve(async |_| Ok(()), async |_| std::future::pending().await)
            .await;
    }

    /// Joins the bus, and again whenever it is lost, until `shutdown`. `register` puts the service's own interfaces on the
    /// connection; `work` then publishes on it, and ends only when the bus is lost.
    pub async fn serve(
        &self,
        register: impl AsyncFn(&Connection) -> zbus::Result<()>,
        work: impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) {
        let mut pause = SHORTEST_PAUSE;
        let serve = async {
            loop {
                let joined = tokio::time::timeout(PATIENCE, self.join(&register)).await;
                let ended = match joined {
                    Ok(Ok(connection)) => {
                        self.status.clear(PROBLEM);
                        pause = SHORTEST_PAUSE;
                        self.stay(&connection, &work).await
                    }
                    Ok(Err(error)) => error,
                    Err(_) => zbus::Error::Failure("the bus does not answer".into()),
                };
                self.status.raise(
                    PROBLEM,
                    format!("nothing is published on the desktop bus: {ended}"),
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        };
        self.shutdown.run_until_cancelled(serve).await;
    }

    async fn join(
        &self,
        register: &impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) -> zbus::Result<Connection> {
        let connection = zbus::connection::Builder::system().build().await?;
        let state = State {
            status: self.status.clone(),
        };
        connection.object_server().at(self.path.as_str(), state).await?;
        register(&connection).await?;
        connection.request_name(self.name.as_str()).await?;
        Ok(connection)
    }

    async fn stay(
        &self,
        connection: &Connection,
        work: &impl AsyncFn(&Connection) -> zbus::Result<()>,
    ) -> zbus::Error {
        let mut messages = MessageStream::from(connection);
        let closed = async { while let Some(Ok(_)) = messages.next().await {} };
        tokio::select! {
            () = closed => zbus::Error::Failure("the bus closed the connection".into()),
            worked = work(connection) => worked.err().unwrap_or_else(|| zbus::Error::Failure("publishing ended".into())),
            told = self.tell_changes(connection) => told.err().unwrap_or_else(|| zbus::Error::Failure("status ended".into())),
        }
    }

    async fn tell_changes(&self, connection: &Connection) -> zbus::Result<()> {
        let state = connection
            .object_server()
            .interface::<_, State>(self.path.as_str())
            .await?;
        let mut changes = self.status.changed();
        while changes.changed().await.is_ok() {
            let emitter: &SignalEmitter<'_> = state.signal_emitter();
            let state = state.get().await;
            state.state_changed(emitter).await?;
            state.policy_version_changed(emitter).await?;
            state.problems_changed(emitter).await?;
            drop(state);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// `org.portmaster.Service1`: what every service says of itself, to everyone.
#[derive(Debug)]
struct State {
    status: Status,
}

#[interface(name = "org.portmaster.Service1")]
impl State {
    /// 1 starting, 2 working, 3 working with less than it should have, 4 failed.
    #[zbus(property)]
    fn state(&self) -> u32 {
        u32::try_from(i32::from(self.status.health())).unwrap_or(0)
    }

    /// Of the running binary.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.status.snapshot().version
    }

    /// Of the policy in force in this service; 0 where it has none.
    #[zbus(property)]
    fn policy_version(&self) -> u64 {
        self.status.snapshot().policy_version
    }

    /// What is wrong: a stable word, and what it means.
    #[zbus(property)]
    fn problems(&self) -> Vec<(String, String)> {
        self.status
            .snapshot()
            .problems
            .into_iter()
            .map(|problem| (problem.code, problem.text))
            .collect()
    }

    /// Monotonic since start, unless the name ends in `_now`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self) -> HashMap<String, u64> {
        self.status.snapshot().counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_dropped_and_counted() {
        let publisher = Publisher::default();
        for number in 0..MOST_WAITING + 3 {
            publisher.push(number);
        }
        let (batch, dropped) = publisher.next_batch().await;
        assert_eq!((batch[0], batch.len(), dropped), (3, MOST_IN_BATCH, 3));
        assert_eq!(publisher.next_batch().await.1, 0);
    }

    #[test]
    fn names_are_as_the_desktop_writes_them() {
        let about = About {
            name: "process-resolver",
            version: "1",
        };
        let desktop = Desktop::new(about, Status::new(about), CancellationToken::new());
        assert_eq!(
            (desktop.name.as_str(), desktop.path()),
            (
                "org.portmaster.ProcessResolver1",
                "/org/portmaster/ProcessResolver1"
            )
        );
    }
}
