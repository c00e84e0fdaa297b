//! Lists of names: a million of them in some thirteen megabytes, looked up in a few hundred nanoseconds.
//!
//! A name is kept as a keyed 64-bit hash (SipHash-1-3 with a key of this load, so that nobody can make names that meet),
//! not as text: that a name which is on no list is taken for one that is has odds of n / 2⁶⁴ for each of its labels, some
//! 10⁻¹³ for a million names. With the hash stands which list it is, what it covers, and whether it refuses or permits.
//!
//! Invariant: what permits wins over what refuses, whichever lists they stand in.

mod forms;
mod parse;
mod policy_zone;

use std::sync::Arc;

use crate::{Name, siphash};
pub use parse::{Covers, Garbage, Reader, Report};

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Names like this are refused.
    Refuse,
    /// They are not, whatever other entries say.
    Permit,
}

/// A list, beside its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// As the owner calls it.
    pub name: Arc<str>,
    /// What it is about: `ads`, `malware`, … Profiles choose by these.
    pub categories: Vec<String>,
    /// How many names it has, each counted once.
    pub names: u64,
    /// Entries that say what another of this list says already.
    pub duplicates: u64,
}

/// All lists, ready to be asked. Never changes: a new one takes its place as a whole.
#[derive(Debug, Default)]
pub struct Lists {
    lists: Vec<List>,
    key: [u64; 2],
    table: Box<[u64]>,
}

/// No more lists than that.
pub const MOST_LISTS: usize = 255;
/// No more names than that in all of them: they take 107 MiB, three times that while others take their place.
pub const MOST_NAMES: usize = 1 << 23;

/// The low bits of a slot: the list, then what follows.
const LIST: u64 = 0xff;
/// It is about the name itself.
const ITSELF: u64 = 1 << 8;
/// It is about what is below.
const BELOW: u64 = 1 << 9;
const PERMIT: u64 = 1 << 10;
/// Set in every slot that is taken.
const TAKEN: u64 = 1 << 11;
const TAG_BITS: u32 = 12;

impl Lists {
    /// The lists that have this name, or a zone above it; none where an entry permits it. Calls `found` for each.
    pub fn find(&self, name: &Name, mut found: impl FnMut(&List)) {
        if self.table.is_empty() {
            return;
        }
        let mut refusing = [0_u64; 4];
        let mut any = false;
        for (depth, suffix) in name.suffixes().enumerate() {
            let hash = siphash::siphash::<1, 3>(self.key, suffix);
            for slot in self.slots(hash) {
                let meant = if depth == 0 { ITSELF } else { BELOW };
                if slot & meant == 0 {
                    continue;
                }
                if slot & PERMIT != 0 {
                    return;
                }
                let list = usize::try_from(slot & LIST).unwrap_or(0);
                if let Some(bits) = refusing.get_mut(list / 64) {
                    *bits |= 1 << (list % 64);
                    any = true;
                }
            }
        }
        if !any {
            return;
        }
        for (number, list) in self.lists.iter().enumerate() {
            if refusing
                .get(number / 64)
                .is_some_and(|bits| bits & (1 << (number % 64)) != 0)
            {
                found(list);
            }
        }
    }

    /// All of them.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Octets that the names take.
    pub fn octets(&self) -> usize {
        self.table.len() * size_of::<u64>()
    }

    /// Taken slots with this hash.
    fn slots(&self, hash: u64) -> impl Iterator<Item = u64> {
        let start = place(hash, self.table.len());
        let (before, after) = self.table.split_at_checked(start).unwrap_or_default();
        after
            .iter()
            .chain(before)
            .copied()
            .take_while(|slot| slot & TAKEN != 0)
            .filter(move |slot| slot >> TAG_BITS == fragment(hash))
    }
}

/// Where the search for a hash begins: by its high bits.
fn place(hash: u64, slots: usize) -> usize {
    let product = u128::from(hash) * slots as u128;
    usize::try_from(product >> 64).unwrap_or(0)
}

/// What of a hash is kept: its low bits. With those that tell the place, all of it.
const fn fragment(hash: u64) -> u64 {
    hash & (u64::MAX >> TAG_BITS)
}

/// Collects names: ten octets for each, until [`Self::finish`].
#[derive(Debug)]
pub struct Builder {
    lists: Vec<List>,
    key: [u64; 2],
    hashes: Vec<u64>,
    tags: Vec<u16>,
    /// Where the names of the list begin that was begun last.
    begun: usize,
    most: usize,
    overfull: bool,
}

/// There is no room for another list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are at most {MOST_LISTS} lists; put several into one file")]
pub struct TooMany;

impl Builder {
    /// `key`: sixteen random octets, new for each set.
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            lists: Vec::new(),
            key: siphash::key(key),
            hashes: Vec::new(),
            tags: Vec::new(),
            begun: 0,
            most: MOST_NAMES,
            overfull: false,
        }
    }

    /// With room for fewer names than [`MOST_NAMES`].
    pub fn with_room_for(key: [u8; 16], most: usize) -> Self {
        Self {
            most: most.min(MOST_NAMES),
            ..Self::new(key)
        }
    }

    /// What [`Self::add`] is called for next belongs to this list.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn begin(&mut self, name: Arc<str>, categories: Vec<String>) -> Result<(), TooMany> {
        if self.lists.len() >= MOST_LISTS {
            return Err(TooMany);
        }
        self.begun = self.hashes.len();
        self.lists.push(List {
            name,
            categories,
            names: 0,
            duplicates: 0,
        });
        Ok(())
    }

    /// A name of the list that was begun last; see [`Self::is_overfull`].
    pub fn add(&mut self, name: &Name, covers: Covers, says: Says) {
        if self.hashes.len() >= self.most {
            self.overfull = true;
            return;
        }
        let Some(number) = self.lists.len().checked_sub(1) else {
            return;
        };
        let mut tag = u64::try_from(number).unwrap_or(0) | TAKEN;
        tag |= match covers {
            Covers::Name => ITSELF,
            Covers::Zone => ITSELF | BELOW,
            Covers::Below => BELOW,
        };
        if says == Says::Permit {
            tag |= PERMIT;
        }
        self.hashes
            .push(siphash::siphash::<1, 3>(self.key, name.as_wire()));
        self.tags.push(u16::try_from(tag).unwrap_or(0));
    }

    /// There was no room for a name of the list that was begun last: it is to be taken back, since half of it is no list.
    pub fn is_overfull(&self) -> bool {
        self.overfull
    }

    /// Takes back all names of the list that was begun last: its file turned out to be none.
    pub fn take_back(&mut self) {
        self.overfull = false;
        self.hashes.truncate(self.begun);
        self.tags.truncate(self.begun);
    }

    /// All of it, ready to be asked. Names that one list has twice are one.
    pub fn finish(mut self) -> Lists {
        // two fifths stay empty: searches end there
        let slots = match self.hashes.len() {
            0 => 0,
            count => count + count / 3 * 2 + 1,
        };
        let mut table = vec![0_u64; slots].into_boxed_slice();
        for (hash, tag) in self.hashes.into_iter().zip(self.tags) {
            let list = self.lists.get_mut(usize::from(tag & 0xff));
            let is_new = insert(&mut table, hash, u64::from(tag));
            match list {
                Some(list) if is_new => list.names += 1,
                Some(list) => list.duplicates += 1,
                None => {}
            }
        }
        Lists {
            lists: self.lists,
            key: self.key,
            table,
        }
    }
}

/// False: it is there already.
fn insert(table: &mut [u64], hash: u64, tag: u64) -> bool {
    let slot = fragment(hash) << TAG_BITS | tag;
    let (before, after) = table.split_at_mut(place(hash, table.len()));
    match after
        .iter_mut()
        .chain(before)
        .find(|taken| **taken == 0 || **taken == slot)
    {
        Some(free) if *free == 0 => {
            *free = slot;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
