//! What was decided and is not in the [`Journal`](crate::journal) yet: memory files of the packet path's own, which the service
//! manager keeps as well. The journal is written for many events at once, some milliseconds later; a process that is killed
//! meanwhile forgets nothing for that.
//!
//! Two files take turns, so that one can be emptied while the other holds what the journal has not. Records are as in the
//! journal.
//!
//! Invariant: an event is written down here before the packet that it is about goes on. The packet path waits for nobody: where
//! the journal stays behind for longer than there is room, events go on unwritten, as without this file.

use std::{
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use daemon::ready;
use prost::Message as _;
use proto::interceptor::v1::{ConnectionEvents, Position};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::{handover, journal, judge::Event, wire};

const NAMES: [&str; 2] = ["ahead-a", "ahead-b"];
/// A file is left for the other one behind so many octets, if that one can be emptied.
const LONG: u64 = 128 << 10;
/// Nothing is added to a file of so many octets.
const LONGEST: u64 = 8 << 20;

/// See the module's head.
#[derive(Debug)]
pub struct Ahead {
    files: [Place; 2],
    /// The one that is written.
    current: usize,
    /// Behind the last event that was numbered.
    position: Position,
    journaled: Journaled,
    buffer: Vec<u8>,
}

/// The number of the last event that is in the journal.
#[derive(Clone, Debug, Default)]
pub struct Journaled(Arc<AtomicU64>);

#[derive(Debug)]
struct Place {
    file: File,
    length: u64,
    /// The number of its last event.
    last: u64,
}

impl Journaled {
    /// All up to this one are.
    pub fn is(&self, sequence: u64) {
        self.0.store(sequence, Ordering::Release);
    }

    fn has(&self, sequence: u64) -> bool {
        self.0.load(Ordering::Acquire) >= sequence
    }
}

/// What the process before this one wrote down ahead of its journal, oldest first.
pub fn take() -> Vec<ConnectionEvents> {
    let mut records: Vec<_> = NAMES
        .into_iter()
        .flat_map(|name| {
            let passed = ready::take_passed(name);
            passed
                .into_iter()
                .filter_map(move |fd| match journal::read_records(fd) {
                    Ok((_, records)) => Some(records),
                    Err(error) => {
                        handover::refused(name, &error);
                        None
                    }
                })
        })
        .flatten()
        .collect();
    records.sort_by_key(journal::sequence);
    records
}

impl Ahead {
    /// New files, kept in place of those of the process before; events are numbered from behind `position`. Call when what was
    /// in those is in the journal. `None` where nobody keeps them.
    pub fn create(position: Position, journaled: Journaled) -> Option<Self> {
        if !ready::is_supervised() {
            return None;
        }
        let create = |name| {
            let place = Place::create(name)
                .inspect_err(|error| tracing::warn!(%error, "a crash may forget what was decided last"));
            let place = place.ok()?;
            ready::forget(name);
            handover::keep(name, place.file.as_fd());
            Some(place)
        };
        let [one, other] = NAMES;
        Some(Self::of([create(one)?, create(other)?], position, journaled))
    }

    const fn of(files: [Place; 2], position: Position, journaled: Journaled) -> Self {
        Self {
            files,
            current: 0,
            position,
            journaled,
            buffer: Vec::new(),
        }
    }

    /// Writes them down. All of them go into the journal later, in this order, and nothing else does.
    pub fn write(&mut self, events: &[Event]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        self.turn()?;
        self.position.sequence += u64::try_from(events.len()).unwrap_or(u64::MAX);
        let record = ConnectionEvents {
            events: events.iter().map(wire::event).collect(),
            dropped: 0,
            position: Some(self.position),
        };
        self.buffer.clear();
        record
            .encode_length_delimited(&mut self.buffer)
            .map_err(io::Error::other)?;
        let last = self.position.sequence;
        let Some(place) = self.files.get_mut(self.current) else {
            return Ok(());
        };
        let length = place.length + u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        if length > LONGEST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Err(error) = place.file.write_all_at(&self.buffer, place.length) {
            // half a record would hide those behind it
            let _ = ftruncate(&place.file, place.length);
            return Err(error);
        }
        (place.length, place.last) = (length, last);
        Ok(())
    }

    /// Goes on in the other file where this one is long and all of that one is in the journal.
    fn turn(&mut self) -> io::Result<()> {
        let other = 1 - self.current;
        let is_long = self
            .files
            .get(self.current)
            .is_some_and(|place| place.length > LONG);
        let Some(place) = self.files.get_mut(other).filter(|_| is_long) else {
            return Ok(());
        };
        if self.journaled.has(place.last) {
            place.empty()?;
            self.current = other;
        }
        Ok(())
    }
}

impl Place {
    fn create(name: &str) -> io::Result<Self> {
        Ok(Self {
            file: File::from(memfd_create(name, MemfdFlags::CLOEXEC)?),
            length: 0,
            last: 0,
        })
    }

    fn empty(&mut self) -> io::Result<()> {
        ftruncate(&self.file, 0)?;
        self.length = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::test_event;

    fn ahead() -> (Ahead, Journaled) {
        let journaled = Journaled::default();
        let position = Position {
            numbering: 1,
            sequence: 0,
        };
        let files = NAMES.map(|name| Place::create(name).unwrap());
        (Ahead::of(files, position, journaled.clone()), journaled)
    }

    fn numbers(place: &Place) -> Vec<u64> {
        let (_, records) = journal::read_records(place.file.try_clone().unwrap().into()).unwrap();
        records.iter().map(journal::sequence).collect()
    }

    #[test]
    fn what_the_journal_lacks_is_always_in_one_of_the_files() {
        let (mut ahead, journaled) = ahead();
        let mut written = 0_u64;
        // the journal stays some behind, as it does under load
        for id in 1..=20_000_u64 {
            ahead.write(&[test_event(id), test_event(id)]).unwrap();
            written += 2;
            journaled.is(written.saturating_sub(40) & !1);
            if id % 997 == 0 {
                let mut there: Vec<u64> = ahead.files.iter().flat_map(numbers).collect();
                there.sort_unstable();
                let lacking: Vec<u64> = (written.saturating_sub(38)..=written)
                    .filter(|number| number % 2 == 0 && *number > 0)
                    .collect();
                assert!(there.ends_with(&lacking), "{there:?}");
                assert!(ahead.files.iter().all(|place| place.length < 2 * LONG));
            }
        }
    }

    #[test]
    fn where_nobody_writes_a_journal_there_is_an_end() {
        let (mut ahead, _) = ahead();
        let mut refused = 0;
        for id in 1..200_000_u64 {
            refused += u64::from(ahead.write(&[test_event(id)]).is_err());
        }
        assert!(refused > 0);
        assert!(ahead.files.iter().all(|place| place.length <= LONGEST));
    }
}
