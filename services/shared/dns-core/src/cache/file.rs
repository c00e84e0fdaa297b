//! The cache across a restart. Wall-clock times stand in the file: an answer's life goes on while nobody serves it.
//!
//! Layout, numbers most significant byte first: magic, time of writing (u64, milliseconds since 1970), entries, checksum
//! (u64, SipHash of all before it). An entry: key (u16 length, bytes), time of arrival (u64), lifetime (u32), code (u16),
//! kind and AD (u8 each), counts (3 × u16), places of TTLs (u16 count, u16 each), extended error (u8 there or not; u16 code,
//! u16 length, text), records (u16 length, bytes).

use std::{sync::Arc, time::Duration};

use super::{Cache, is_worth, lock, millis};
use crate::{
    siphash::siphash,
    wire::{Answer, Key, Kind, Response},
};

const MAGIC: &[u8; 8] = b"PMDNSC01";
/// The checksum finds accidents; who can write the file can write the sum.
const SUM_KEY: [u64; 2] = [0x706f_7274, 0x6d61_7374];
const KINDS: [Kind; 3] = [Kind::Positive, Kind::NoData, Kind::NxDomain];

/// Why a file is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No file of ours, or of another version.
    #[error("it is no cache file of this version")]
    Magic,
    /// Cut or damaged.
    #[error("its checksum does not fit: it was cut or damaged")]
    Checksum,
    /// The checksum fits, an entry does not.
    #[error("entry {0} is malformed")]
    Entry(u32),
}

/// What was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Entries within their life.
    pub fresh: u32,
    /// Entries that may be given only when upstreams fail.
    pub stale: u32,
    /// Entries too old for anything.
    pub dropped: u32,
}

impl Cache {
    /// All answers but failures, as bytes for a file. `wall` is the time since 1970 at `now`.
    pub fn save(&self, now: Duration, wall: Duration) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let wall = millis(wall);
        put64(&mut out, wall);
        for shard in &self.shards {
            let shard = lock(shard);
            for (slot, answer) in shard.live().filter(|(_, answer)| is_worth(answer)) {
                entry(&mut out, &slot.key, wall - (millis(now) - slot.stored), answer);
            }
        }
        let sum = siphash::<1, 3>(SUM_KEY, &out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// Puts in what [`Cache::save`] wrote. A clock that was set back since then makes everything stale: nobody knows how
    /// old it is.
    ///
    /// # Errors
    /// [`LoadError`]; nothing of the file was put in but entries before a malformed one.
    pub fn load(&self, file: &[u8], now: Duration, wall: Duration) -> Result<Loaded, LoadError> {
        let (content, sum) = file.split_last_chunk::<8>().ok_or(LoadError::Magic)?;
        let rest = content.strip_prefix(MAGIC).ok_or(LoadError::Magic)?;
        if siphash::<1, 3>(SUM_KEY, content) != u64::from_be_bytes(*sum) {
            return Err(LoadError::Checksum);
        }
        let (now, wall) = (millis(now), millis(wall));
        let mut reader = Reader(rest);
        let written = reader.i64().ok_or(LoadError::Entry(0))?;
        let (mut loaded, mut number) = (Loaded::default(), 0);
        while !reader.0.is_empty() {
            number += 1;
            let (key, arrived, answer) = read(&mut reader).ok_or(LoadError::Entry(number))?;
            let life = i64::from(answer.lifetime()) * 1000;
            let age = if wall < written {
                life
            } else {
                (wall - arrived).max(0)
            };
            let (stored, expires) = (now - age, now - age + life);
            let hash = self.hash(key.as_bytes());
            let Some(mut shard) = self.shard(hash) else {
                continue;
            };
            if expires + shard.stale_bound() <= now {
                loaded.dropped += 1;
                continue;
            }
            loaded.fresh += u32::from(expires > now);
            loaded.stale += u32::from(expires <= now);
            shard.put(hash, key.as_bytes(), Arc::new(answer), stored, expires, now);
        }
        Ok(loaded)
    }
}

fn entry(out: &mut Vec<u8>, key: &[u8], arrived: i64, answer: &Answer) {
    sized(out, key);
    put64(out, arrived);
    out.extend_from_slice(&answer.lifetime.to_be_bytes());
    out.extend_from_slice(&answer.code.to_be_bytes());
    let kind = KINDS
        .iter()
        .position(|kind| *kind == answer.kind)
        .unwrap_or(KINDS.len());
    out.extend_from_slice(&[kind as u8, u8::from(answer.authentic)]);
    out.extend_from_slice(answer.counts.map(u16::to_be_bytes).as_flattened());
    out.extend_from_slice(&(answer.ttls.len() as u16).to_be_bytes());
    out.extend(answer.ttls.iter().flat_map(|place| place.to_be_bytes()));
    out.push(u8::from(answer.error.is_some()));
    if let Some((code, text)) = &answer.error {
        out.extend_from_slice(&code.to_be_bytes());
        sized(out, text.as_bytes());
    }
    sized(out, &answer.body);
}

fn put64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(length)).unwrap_or(bytes));
}

fn read(reader: &mut Reader<'_>) -> Option<(Key, i64, Answer)> {
    let key = Key::from_bytes(reader.sized()?)?;
    let arrived = reader.i64()?;
    let lifetime = u32::from_be_bytes(reader.chunk()?);
    let code = reader.u16()?;
    let [kind, authentic] = reader.chunk()?;
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
    let places = reader.u16()?;
    let ttls: Box<[u16]> = (0..places).map(|_| reader.u16()).collect::<Option<_>>()?;
    let [has_error] = reader.chunk()?;
    let error = if has_error == 0 {
        None
    } else {
        let code = reader.u16()?;
        Some((code, String::from_utf8_lossy(reader.sized()?).into()))
    };
    let body: Box<[u8]> = reader.sized()?.into();
    let answer = Answer {
        question_length: u16::try_from(key.question().len()).ok()?,
        body,
        ttls,
        counts,
        code,
        authentic: authentic != 0,
        kind: *KINDS.get(usize::from(kind))?,
        lifetime,
        error,
    };
    is_whole(&key, &answer).then_some((key, arrived, answer))
}

/// Whether its records read to the end, and its TTLs stand in them.
fn is_whole(key: &Key, answer: &Answer) -> bool {
    let message = answer.to_message(key);
    let Ok(response) = Response::parse(&message) else {
        return false;
    };
    let places = answer
        .ttls
        .iter()
        .all(|place| usize::from(*place) + 4 <= answer.body.len());
    places
        && response
            .records()
            .all(|record| record.and_then(|record| record.owner()).is_ok())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_be_bytes)
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}
