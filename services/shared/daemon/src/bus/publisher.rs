//! Events in batches, for a bus that may be slow, stuck or not there.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::PATIENCE;
use crate::status::Counter;

/// Between two batches.
pub const PAUSE: Duration = Duration::from_millis(50);
/// Events that wait; beyond it the oldest are dropped.
const MOST_WAITING: usize = 8192;
/// Events in one signal: well below the bus's limit for messages.
const MOST_IN_BATCH: usize = 512;

/// Events on their way to the bus.
#[derive(Debug)]
pub struct Publisher<T>(Arc<Queue<T>>);

#[derive(Debug)]
struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    more: Notify,
    lost: Counter,
}

#[derive(Debug)]
struct Waiting<T> {
    events: VecDeque<T>,
    /// Since the last batch.
    dropped: u64,
    /// A batch was taken, and is not sent yet.
    sending: bool,
}

impl<T> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Publisher<T> {
    fn default() -> Self {
        Self::counting(Counter::default())
    }
}

impl<T> Publisher<T> {
    /// `lost` counts what nobody got.
    pub fn counting(lost: Counter) -> Self {
        let waiting = Mutex::new(Waiting {
            events: VecDeque::new(),
            dropped: 0,
            sending: false,
        });
        Self(Arc::new(Queue {
            waiting,
            more: Notify::new(),
            lost,
        }))
    }

    /// Never waits.
    pub fn push(&self, event: T) {
        let mut waiting = self.lock();
        if waiting.events.len() >= MOST_WAITING {
            waiting.events.pop_front();
            waiting.dropped += 1;
            self.0.lost.add(1);
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.0.more.notify_one();
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    /// Waits until the bus has everything. For the end: where there is no bus, it waits for ever.
    pub async fn sent(&self) {
        loop {
            {
                let waiting = self.lock();
                if waiting.events.is_empty() && !waiting.sending {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
                    waiting.sending = true;
                    return (waiting.events.drain(..count).collect(), dropped);
                }
            }
            notified.await;
        }
    }

    /// These were taken and could not be sent.
    fn give_up(&self, count: usize, dropped: u64) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.0.lost.add(count);
        self.lock().dropped += dropped + count;
    }

    /// Sends batches by `emit`, at once when idle and every 50 ms under load, until one cannot be sent.
    pub async fn pump(&self, emit: impl AsyncFn(Vec<T>, u64) -> zbus::Result<()>) -> zbus::Result<()> {
        loop {
            let (events, dropped) = self.next_batch().await;
            let count = events.len();
            let sent = tokio::time::timeout(PATIENCE, emit(events, dropped)).await;
            self.lock().sending = false;
            if !matches!(sent, Ok(Ok(()))) {
                self.give_up(count, dropped);
                return sent.unwrap_or(Err(super::stuck()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_takes_nothing_is_left_and_the_loss_is_told() {
        let lost = Counter::default();
        let publisher = Publisher::counting(lost.clone());
        publisher.push(1);
        publisher.push(2);
        let stuck = publisher.pump(async |_, _| std::future::pending().await).await;
        assert!(stuck.is_err());
        publisher.push(3);
        assert_eq!((publisher.next_batch().await, lost.get()), ((vec![3], 2), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_bus_gets_an_event_at_once_and_a_busy_one_gets_batches() {
        let publisher = Publisher::default();
        let (start, times) = (tokio::time::Instant::now(), Mutex::new(Vec::new()));
        let pump = publisher.pump(async |events: Vec<u8>, _| {
            times.lock().unwrap().push((start.elapsed(), events.len()));
            Ok(())
        });
        let work = async {
            publisher.push(1);
            tokio::time::sleep(Duration::from_millis(10)).await;
            publisher.push(2);
            publisher.push(3);
            tokio::time::sleep(PAUSE * 3).await;
        };
        tokio::select! {
            _ = pump => panic!("it goes on"),
            () = work => {}
        }
        assert_eq!(
            *times.lock().unwrap(),
            [(Duration::ZERO, 1), (Duration::from_millis(50), 2)]
        );
    }
}
