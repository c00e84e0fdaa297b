//! What happened, written down where it outlives this process: memory files that the service manager keeps.
//!
//! The next process reads from it which connections live, and subscribers go on where they were. One record is one
//! [`ConnectionEvents`] with its length before it; a record that was cut by the end of the process is the end.
//!
//! Invariant: an event is here before any subscriber has it, and in [`crate::ahead`] before its packet goes on. There are at most two files: a long one is written anew, shorter,
//! under the other name, before it is forgotten.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::OwnedFd,
};

use daemon::ready;
use prost::Message as _;
use proto::interceptor::v1::{ConnectionEvents, Position};
use rustix::fs::{FileType, MemfdFlags, fstat, memfd_create};

use crate::handover;

const NAMES: [&str; 2] = ["journal-a", "journal-b"];
/// A file is not written anew before it has this many octets.
const SHORT: u64 = 4 << 20;
/// Longer than any file that is believed.
const LONGEST: u64 = 256 << 20;

/// See the module's head.
#[derive(Debug)]
pub struct Journal {
    file: File,
    /// Which of [`NAMES`].
    name: usize,
    /// Octets now, and after it was last written anew.
    length: u64,
    compact: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// The journal of the process before this one, with its records, oldest first; or a new, empty one. `None` where no
    /// service manager keeps anything.
    pub fn open() -> Option<(Self, Vec<ConnectionEvents>)> {
        if !ready::is_supervised() {
            return None;
        }
        let kept = NAMES.iter().enumerate().flat_map(|(name, text)| {
            let passed = ready::take_passed(text);
            passed
                .into_iter()
                .filter_map(move |fd| read(name, fd).map(|(file, records)| (name, file, records)))
        });
        let newest = kept.max_by_key(|(_, _, records)| records.last().map(sequence));
        match newest {
            Some((name, file, records)) => {
                let journal = Self::of(file, name);
                ready::forget(journal.other());
                Some((journal, records))
            }
            None => Some((Self::create(0)?, Vec::new())),
        }
    }

    fn of(mut file: File, name: usize) -> Self {
        // what is behind the last whole record was cut off by reading
        let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
        Self {
            file,
            name,
            length,
            compact: length,
            buffer: Vec::new(),
        }
    }

    fn create(name: usize) -> Option<Self> {
        match memfd_create(*NAMES.get(name)?, MemfdFlags::CLOEXEC) {
            Ok(fd) => {
                handover::keep(NAMES.get(name)?, &fd);
                Some(Self::of(File::from(fd), name))
            }
            Err(error) => {
                tracing::warn!(%error, "no journal: a restart forgets the live connections");
                None
            }
        }
    }

    fn other(&self) -> &'static str {
        if self.name == 0 { NAMES[1] } else { NAMES[0] }
    }

    /// Adds a record.
    pub fn write(&mut self, record: &ConnectionEvents) -> io::Result<()> {
        self.buffer.clear();
        record
            .encode_length_delimited(&mut self.buffer)
            .map_err(io::Error::other)?;
        self.file.write_all(&self.buffer)?;
        self.length += u64::try_from(self.buffer.len()).unwrap_or(0);
        Ok(())
    }

    /// Whether it is mostly about what is over.
    pub const fn is_long(&self) -> bool {
        self.length > SHORT && self.length > 3 * self.compact
    }

    /// Written anew with these records.
    pub fn shortened(&self, records: impl IntoIterator<Item = ConnectionEvents>) -> Option<Self> {
        let mut shorter = Self::create(1 - self.name)?;
        for record in records {
            if let Err(error) = shorter.write(&record) {
                tracing::warn!(%error, "the journal cannot be written anew");
                ready::forget(self.other());
                return None;
            }
        }
        shorter.compact = shorter.length;
        ready::forget(NAMES.get(self.name)?);
        Some(shorter)
    }
}

#[cfg(test)]
impl Journal {
    /// An empty one, kept by nobody.
    pub(crate) fn unkept() -> Self {
        Self::create(0).unwrap()
    }

    /// What the next process would read.
    pub(crate) fn records(&self) -> Vec<ConnectionEvents> {
        read_records(self.file.try_clone().unwrap().into()).unwrap().1
    }

    pub(crate) const fn was_written_anew(&self) -> bool {
        self.compact > 0
    }
}

/// The number of its last event.
pub fn sequence(record: &ConnectionEvents) -> u64 {
    record.position.map_or(0, |Position { sequence, .. }| sequence)
}

/// A strange file is closed, and said.
fn read(name: usize, fd: OwnedFd) -> Option<(File, Vec<ConnectionEvents>)> {
    match read_records(fd) {
        Ok(read) => Some(read),
        Err(error) => {
            handover::refused(NAMES.get(name)?, &error);
            None
        }
    }
}

/// The whole records of a file; what is behind them is cut off.
pub fn read_records(fd: OwnedFd) -> io::Result<(File, Vec<ConnectionEvents>)> {
    let stat = fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no file"));
    }
    let mut file = File::from(fd);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    (&mut file).take(LONGEST).read_to_end(&mut bytes)?;
    let (records, whole) = parse(&bytes);
    file.set_len(whole)?;
    Ok((file, records))
}

/// The whole records, and their octets.
fn parse(bytes: &[u8]) -> (Vec<ConnectionEvents>, u64) {
    let mut rest = bytes;
    let mut records = Vec::new();
    let mut whole = 0;
    while !rest.is_empty() {
        let Ok(record) = ConnectionEvents::decode_length_delimited(&mut rest) else {
            break;
        };
        records.push(record);
        whole = bytes.len() - rest.len();
    }
    (records, u64::try_from(whole).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(sequence: u64) -> ConnectionEvents {
        ConnectionEvents {
            dropped: 7,
            position: Some(Position {
                numbering: 1,
                sequence,
            }),
            ..ConnectionEvents::default()
        }
    }

    #[test]
    fn what_was_written_is_read_up_to_the_cut() {
        let mut bytes = Vec::new();
        for sequence in 1..=3 {
            bytes.extend(record(sequence).encode_length_delimited_to_vec());
        }
        let two = parse(&bytes[..bytes.len() - 1]);
        assert_eq!(two.0, [record(1), record(2)]);
        let (all, whole) = parse(&bytes);
        assert_eq!((all.len(), whole), (3, bytes.len() as u64));
    }

    #[test]
    fn a_file_goes_from_one_process_to_the_next() {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        let mut journal = Journal::of(File::from(fd.try_clone().unwrap()), 0);
        for sequence in 1..=100 {
            journal.write(&record(sequence)).unwrap();
        }
        drop(journal);
        let (file, records) = read_records(fd).unwrap();
        assert_eq!(records.len(), 100);
        let mut journal = Journal::of(file, 0);
        journal.write(&record(101)).unwrap();
        let (_, records) = read_records(journal.file.into()).unwrap();
        assert_eq!(records.last(), Some(&record(101)));
    }

    #[test]
    fn a_socket_is_no_journal() {
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(read_records(socket.into()).is_err());
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes: Vec<u8>) {
            let (_, whole) = parse(&bytes);
            prop_assert!(whole as usize <= bytes.len());
        }
    }
}
