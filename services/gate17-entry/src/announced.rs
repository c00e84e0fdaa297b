//! Streams that are open and wait for the program's own connection: the interceptor lets its SYN go when the far end has
//! answered, and not before.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A program that did not come within this time has gone; longer than a SYN takes to be sent again, twice.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streams that wait at once.
const MOST: usize = 4096;

/// A TCP connection, as the program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The program's.
    pub client: SocketAddr,
    /// Where it wants to go.
    pub destination: SocketAddr,
}

/// Waiting streams, by their program's connection; clones share them.
#[derive(Debug)]
pub struct Announced<S> {
    waiting: Arc<Mutex<HashMap<Ends, (Instant, S)>>>,
}

impl<S> Clone for Announced<S> {
    fn clone(&self) -> Self {
        Self {
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<S> Default for Announced<S> {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
        }
    }
}

impl<S> Announced<S> {
    /// A stream waits from now on. One that waits for the same connection already is replaced: its program gave up, and tries
    /// again from the same port. Gives the stream back where too many wait.
    ///
    /// # Errors
    /// With the stream.
    pub fn put(&self, now: Instant, ends: Ends, stream: S) -> Result<(), S> {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            waiting.retain(|_, (since, _)| now.saturating_duration_since(*since) < PATIENCE);
        }
        if waiting.len() >= MOST && !waiting.contains_key(&ends) {
            return Err(stream);
        }
        waiting.insert(ends, (now, stream));
        Ok(())
    }

    /// The program came.
    pub fn take(&self, ends: Ends) -> Option<S> {
        self.lock().remove(&ends).map(|(_, stream)| stream)
    }

    /// Closes those whose program did not come; gives how many still wait.
    pub fn tidy(&self, now: Instant) -> usize {
        let mut waiting = self.lock();
        waiting.retain(|_, (since, _)| now.saturating_duration_since(*since) < PATIENCE);
        waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, (Instant, S)>> {
        // nothing in here is left half done by a panic
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(port: u16) -> Ends {
        Ends {
            client: ([10, 0, 0, 1], port).into(),
            destination: ([198, 18, 0, 1], 443).into(),
        }
    }

    #[test]
    fn a_stream_is_for_its_own_connection_and_once() {
        let announced = Announced::default();
        announced.put(Instant::now(), ends(1), "stream").unwrap();
        assert_eq!(announced.take(ends(2)), None);
        assert_eq!(announced.take(ends(1)), Some("stream"));
        assert_eq!(announced.take(ends(1)), None);
    }

    #[test]
    fn who_does_not_come_is_not_waited_for() {
        let (announced, now) = (Announced::default(), Instant::now());
        announced.put(now, ends(1), ()).unwrap();
        assert_eq!(announced.tidy(now + PATIENCE / 2), 1);
        assert_eq!(announced.tidy(now + PATIENCE), 0);
        assert_eq!(announced.take(ends(1)), None);
    }

    #[test]
    fn only_so_many_wait_and_late_ones_make_room() {
        let (announced, now) = (Announced::default(), Instant::now());
        for port in 0..MOST {
            announced
                .put(now, ends(u16::try_from(port).unwrap()), port)
                .unwrap();
        }
        let next = ends(u16::MAX);
        assert_eq!(announced.put(now, next, 7), Err(7));
        announced.put(now, ends(1), 7).unwrap();
        announced.put(now + PATIENCE, next, 7).unwrap();
        assert_eq!(announced.take(next), Some(7));
    }
}
