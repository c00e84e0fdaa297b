//! What became of circuits: the last changes, and everybody who follows them.
//!
//! Invariant: telling costs the same whoever follows; who reads too slowly loses the oldest, and is told how many.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use proto::{
    gate17::v1::{Circuit, CircuitEvent},
    place::Place,
};
use tokio::sync::watch;

/// Changes that are remembered: hours of a desktop.
const KEPT: usize = 1024;

/// See the module's head. Clones are the same.
#[derive(Clone, Debug)]
pub struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of this run: another one has another.
    numbering: u64,
    /// The last ones, in order.
    last: Mutex<VecDeque<CircuitEvent>>,
    /// How many there ever were.
    count: watch::Sender<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self(Arc::new(Inner {
            numbering: rand::random(),
            last: Mutex::default(),
            count: watch::Sender::new(0),
        }))
    }
}

impl History {
    /// It changed just now.
    pub fn tell(&self, circuit: Circuit) {
        let mut last = self.lock();
        let sequence = *self.0.count.borrow() + 1;
        last.push_back(CircuitEvent {
            event_id: self.place(sequence).text(),
            ..present(circuit)
        });
        if last.len() > KEPT {
            last.pop_front();
        }
        // while the list is held: who hears of it finds it there
        self.0.count.send_replace(sequence);
    }

    /// Follows from now on, or behind a place that this history told. `None`: it told no such place, or not in this run.
    pub fn follow(&self, behind: Option<Place>) -> Option<Follower> {
        let count = self.0.count.subscribe();
        let now = *count.borrow();
        let seen = match behind {
            None => now,
            Some(place) if place.numbering == self.0.numbering && place.sequence <= now => place.sequence,
            Some(_) => return None,
        };
        Some(Follower {
            history: self.clone(),
            count,
            seen,
        })
    }

    /// The changes behind the first `seen`, and how many of those are forgotten.
    fn behind(&self, seen: u64) -> (Vec<CircuitEvent>, u64) {
        let last = self.lock();
        let kept = u64::try_from(last.len()).unwrap_or(u64::MAX);
        let forgotten = self.0.count.borrow().saturating_sub(kept);
        let skipped = usize::try_from(seen.saturating_sub(forgotten)).unwrap_or(usize::MAX);
        let events = last.iter().skip(skipped).cloned().collect();
        (events, forgotten.saturating_sub(seen))
    }

    fn place(&self, sequence: u64) -> Place {
        Place {
            numbering: self.0.numbering,
            sequence,
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<CircuitEvent>> {
        // nothing in here is left half done by a panic
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A circuit, as it is now.
pub fn present(circuit: Circuit) -> CircuitEvent {
    CircuitEvent {
        time: Some(SystemTime::now().into()),
        circuit: Some(circuit),
        ..CircuitEvent::default()
    }
}

/// Somebody who follows.
#[derive(Debug)]
pub struct Follower {
    history: History,
    count: watch::Receiver<u64>,
    /// Of all that ever were.
    seen: u64,
}

impl Follower {
    /// No circuit, but where this one is.
    pub fn here(&self, dropped: u64) -> CircuitEvent {
        CircuitEvent {
            time: Some(SystemTime::now().into()),
            event_id: self.history.place(self.seen).text(),
            dropped,
            ..CircuitEvent::default()
        }
    }

    /// What he has not seen; waits until there is something. The first says what is lost before it.
    pub async fn next(&mut self) -> Vec<CircuitEvent> {
        let seen = self.seen;
        // the sender is held here
        let _ = self.count.wait_for(|count| *count > seen).await;
        let (mut events, lost) = self.history.behind(seen);
        if let Some(first) = events.first_mut() {
            first.dropped = lost;
        }
        self.seen += lost + u64::try_from(events.len()).unwrap_or(0);
        events
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn tell(history: &History, ids: std::ops::RangeInclusive<u64>) {
        for id in ids {
            history.tell(Circuit {
                id,
                ..Circuit::default()
            });
        }
    }

    /// What there is now: ids, lost before them, place behind them.
    fn read(follower: &mut Follower) -> Option<(Vec<u64>, u64, Place)> {
        let events = follower.next().now_or_never()?;
        let ids = events.iter().map(|event| event.circuit.as_ref().unwrap().id);
        let place = Place::parse(&events.last().unwrap().event_id).unwrap();
        Some((ids.collect(), events[0].dropped, place))
    }

    #[test]
    fn who_comes_back_goes_on_where_he_was() {
        let history = History::default();
        tell(&history, 1..=2);
        let mut follower = history.follow(None).unwrap();
        assert_eq!(read(&mut follower), None, "what was is no change");
        let begin = Place::parse(&follower.here(0).event_id).unwrap();
        tell(&history, 3..=4);
        let (ids, dropped, place) = read(&mut follower).unwrap();
        assert_eq!((ids, dropped), (vec![3, 4], 0));
        assert_eq!(read(&mut follower), None);
        tell(&history, 5..=5);
        for (from, expected) in [(begin, vec![3, 4, 5]), (place, vec![5])] {
            let mut back = history.follow(Some(from)).unwrap();
            let (ids, dropped, _) = read(&mut back).unwrap();
            assert_eq!((ids, dropped), (expected, 0));
        }
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_he_lost() {
        let history = History::default();
        let mut follower = history.follow(None).unwrap();
        let many = u64::try_from(KEPT).unwrap() + 7;
        tell(&history, 1..=many);
        let (ids, dropped, _) = read(&mut follower).unwrap();
        assert_eq!((ids.len(), ids[0], dropped), (KEPT, 8, 7));
        tell(&history, many + 1..=many + 1);
        let (ids, dropped, _) = read(&mut follower).unwrap();
        assert_eq!((ids, dropped), (vec![many + 1], 0));
    }

    #[test]
    fn a_place_that_is_not_ours_is_none() {
        let history = History::default();
        tell(&history, 1..=2);
        let here = Place::parse(&history.follow(None).unwrap().here(0).event_id).unwrap();
        for other in [
            Place {
                numbering: here.numbering ^ 1,
                ..here
            },
            Place { sequence: 3, ..here },
        ] {
            assert!(history.follow(Some(other)).is_none(), "{other:?}");
        }
    }
}
