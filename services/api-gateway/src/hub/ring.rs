//! The last events, in batches, as they are told.
//!
//! Invariant: where a batch begins and ends is the same for all who read: what was made of it for one of them is the next one's
//! as well.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use proto::place::Place;

/// Events that are kept, at least but for a batch: some seconds of a storm, hours of a desktop.
pub(super) const KEPT: usize = 16_384;
/// Events of a batch, at most.
pub(super) const BATCH: usize = 512;

/// A `ConnectionEvent` as it goes out, and its number.
pub type Numbered = (u64, Bytes);

/// Some events, in order.
#[derive(Debug)]
pub struct Batch {
    events: Vec<Numbered>,
    /// Behind the last of them.
    last: u64,
}

/// What a client gets next.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// None: nothing is new.
    pub batch: Option<Arc<Batch>>,
    /// Events of it that he has seen.
    seen: usize,
    /// Events before these that are not known any more.
    pub dropped: u64,
    /// Behind them.
    pub place: Option<Place>,
}

impl Next {
    /// In order.
    pub fn events(&self) -> &[Numbered] {
        let events = self.batch.as_ref().map(|batch| batch.events.as_slice());
        events
            .and_then(|events| events.get(self.seen..))
            .unwrap_or_default()
    }

    /// It is what all others get who read on.
    pub fn is_whole(&self) -> bool {
        self.seen == 0 && self.dropped == 0
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ring {
    batches: VecDeque<Arc<Batch>>,
    kept: usize,
    /// Of the next batch.
    open: Vec<Numbered>,
    /// Behind the last event; unset before the first.
    place: Option<Place>,
    /// The same of what is told.
    told: Option<Place>,
}

impl Ring {
    /// Behind the last event.
    pub(super) const fn place(&self) -> Option<Place> {
        self.place
    }

    /// Numbering began anew, and nothing from before counts. Events come behind this number.
    pub(super) fn renumber(&mut self, numbering: u64, sequence: u64) {
        self.batches.clear();
        self.open.clear();
        self.kept = 0;
        self.place = Some(Place { numbering, sequence });
        self.told = self.place;
    }

    /// To be told with the next batch.
    pub(super) fn push(&mut self, number: u64, event: Bytes) {
        self.open.push((number, event));
        if self.open.len() >= BATCH {
            self.close();
        }
    }

    /// There is nothing more up to here.
    pub(super) const fn advance(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// All that came is told from now on.
    pub(super) fn seal(&mut self) {
        self.close();
        self.told = self.place;
    }

    fn close(&mut self) {
        let Some((last, _)) = self.open.last() else {
            return;
        };
        let last = *last;
        if let Some(told) = &mut self.told {
            told.sequence = last;
        }
        self.kept += self.open.len();
        self.batches.push_back(Arc::new(Batch {
            events: std::mem::take(&mut self.open),
            last,
        }));
        while self.kept > KEPT
            && let Some(oldest) = self.batches.pop_front()
        {
            self.kept -= oldest.events.len();
        }
    }

    /// The batch behind `place`. `None`: from the first event that is known.
    pub(super) fn after(&self, place: Option<Place>) -> Next {
        let Some(now) = self.told else {
            return Next {
                place,
                ..Next::default()
            };
        };
        let oldest = self
            .batches
            .front()
            .and_then(|batch| batch.events.first())
            .map_or(now.sequence + 1, |(number, _)| *number);
        let (seen, mut dropped) = match place {
            Some(place) if place.numbering == now.numbering => (place.sequence, 0),
            // numbering began anew: how much was lost meanwhile nobody knows; it is not nothing
            Some(_) => (oldest.saturating_sub(1), 1),
            None => (oldest.saturating_sub(1), 0),
        };
        let index = self.batches.partition_point(|batch| batch.last <= seen);
        let mut next = Next {
            batch: self.batches.get(index).cloned(),
            ..Next::default()
        };
        let last = match &next.batch {
            Some(batch) => {
                next.seen = batch.events.partition_point(|(number, _)| *number <= seen);
                batch.last
            }
            None => now.sequence.max(seen),
        };
        let told = u64::try_from(next.events().len()).unwrap_or(u64::MAX);
        dropped += last.saturating_sub(seen).saturating_sub(told);
        Next {
            dropped,
            place: Some(Place {
                numbering: now.numbering,
                sequence: last,
            }),
            ..next
        }
    }
}
