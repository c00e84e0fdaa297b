//! Lists of names: a million of them in some eleven megabytes, looked up in a few hundred nanoseconds.
//!
//! A name is kept as a keyed 64-bit hash (SipHash-1-3 with a key of this process, so that nobody can make names that meet),
//! not as text: that a name which is on no list is taken for one that is has odds of n / 2⁶⁴ for each of its labels, some
//! 10⁻¹³ for a million names. With the hash stands which list it is, whether it covers what is below, and whether it refuses
//! or permits.
//!
//! Invariant: what permits wins over what refuses, whichever lists they stand in.

mod parse;

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
    /// How many names it has.
    pub names: u64,
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

/// The low bits of a slot: the list, then what follows.
const LIST: u64 = 0xff;
const ZONE: u64 = 1 << 8;
const PERMIT: u64 = 1 << 9;
/// Set in every slot that is taken.
const TAKEN: u64 = 1 << 10;
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
                if depth > 0 && slot & ZONE == 0 {
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

/// Collects names.
#[derive(Debug)]
pub struct Builder {
    lists: Vec<List>,
    key: [u64; 2],
    entries: Vec<(u64, u16)>,
}

/// There is no room for another list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are at most {MOST_LISTS} lists; put several into one file")]
pub struct TooMany;

impl Builder {
    /// `key`: sixteen random octets.
    pub fn new(key: [u8; 16]) -> Self {
        Self {
            lists: Vec::new(),
            key: siphash::key(key),
            entries: Vec::new(),
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
        self.lists.push(List {
            name,
            categories,
            names: 0,
        });
        Ok(())
    }

    /// A name of the list that was begun last.
    pub fn add(&mut self, name: &Name, covers: Covers, says: Says) {
        let Some(number) = self.lists.len().checked_sub(1) else {
            return;
        };
        let mut tag = u64::try_from(number).unwrap_or(0) | TAKEN;
        if covers == Covers::Zone {
            tag |= ZONE;
        }
        if says == Says::Permit {
            tag |= PERMIT;
        }
        let hash = siphash::siphash::<1, 3>(self.key, name.as_wire());
        self.entries.push((hash, u16::try_from(tag).unwrap_or(0)));
    }

    /// How many names were added so far, of all lists.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None was.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes back what was added after so many.
    pub fn truncate(&mut self, length: usize) {
        self.entries.truncate(length);
    }

    /// All of it, ready to be asked. Names that one list has twice are one.
    pub fn finish(mut self) -> Lists {
        self.entries.sort_unstable();
        self.entries.dedup();
        for (_, tag) in &self.entries {
            if let Some(list) = self.lists.get_mut(usize::from(*tag & 0xff)) {
                list.names += 1;
            }
        }
        // a quarter stays empty: searches end there
        let slots = match self.entries.len() {
            0 => 0,
            count => count + count / 3 + 1,
        };
        let mut table = vec![0_u64; slots].into_boxed_slice();
        for (hash, tag) in self.entries {
            let slot = fragment(hash) << TAG_BITS | u64::from(tag);
            let start = place(hash, slots);
            let (before, after) = table.split_at_mut(start);
            if let Some(free) = after.iter_mut().chain(before).find(|slot| **slot == 0) {
                *free = slot;
            }
        }
        Lists {
            lists: self.lists,
            key: self.key,
            table,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn found(lists: &Lists, name: &str) -> Vec<String> {
        let mut all = Vec::new();
        lists.find(&name.parse().unwrap(), |list| all.push(list.name.to_string()));
        all
    }

    fn built(entries: &[(usize, &str, Covers, Says)]) -> Lists {
        let mut builder = Builder::new([7; 16]);
        for number in 0..3 {
            builder
                .begin(format!("list-{number}").into(), vec!["ads".into()])
                .unwrap();
            for (_, name, covers, says) in entries.iter().filter(|(of, ..)| *of == number) {
                builder.add(&name.parse().unwrap(), *covers, *says);
            }
        }
        builder.finish()
    }

    #[test]
    fn a_zone_covers_what_is_below_and_a_name_itself_alone() {
        let lists = built(&[
            (0, "ads.test", Covers::Zone, Says::Refuse),
            (1, "one.test", Covers::Name, Says::Refuse),
        ]);
        assert_eq!(found(&lists, "ads.test"), ["list-0"]);
        assert_eq!(found(&lists, "a.b.ads.test"), ["list-0"]);
        assert_eq!(found(&lists, "badads.test"), [""; 0]);
        assert_eq!(found(&lists, "one.test"), ["list-1"]);
        assert_eq!(found(&lists, "www.one.test"), [""; 0]);
        assert_eq!(found(&Lists::default(), "one.test"), [""; 0]);
    }

    #[test]
    fn what_permits_wins_wherever_it_stands() {
        let lists = built(&[
            (0, "ads.test", Covers::Zone, Says::Refuse),
            (2, "good.ads.test", Covers::Zone, Says::Permit),
        ]);
        assert_eq!(found(&lists, "www.good.ads.test"), [""; 0]);
        assert_eq!(found(&lists, "bad.ads.test"), ["list-0"]);
        assert_eq!(
            lists.lists().iter().map(|list| list.names).collect::<Vec<_>>(),
            [1, 0, 1]
        );
    }

    proptest! {
        #[test]
        fn it_is_what_the_simplest_set_is(
            entries in prop::collection::vec((0_usize..3, "[ab](\\.[abc]){0,3}", any::<bool>(), prop::bool::weighted(0.2)), 0..60),
            asked in prop::collection::vec("[ab](\\.[abc]){0,4}", 1..20),
        ) {
            let entries: Vec<_> = entries.iter().map(|(list, name, zone, permit)| {
                let covers = if *zone { Covers::Zone } else { Covers::Name };
                (*list, name.as_str(), covers, if *permit { Says::Permit } else { Says::Refuse })
            }).collect();
            let lists = built(&entries);
            let mut plain: BTreeMap<&str, BTreeSet<(usize, bool, bool)>> = BTreeMap::new();
            for (list, name, covers, says) in &entries {
                plain.entry(name).or_default().insert((*list, *covers == Covers::Zone, *says == Says::Permit));
            }
            for name in &asked {
                let mut hits = BTreeSet::new();
                let mut rest = Some(name.as_str());
                while let Some(suffix) = rest {
                    for (list, zone, permit) in plain.get(suffix).into_iter().flatten() {
                        if *zone || suffix == name {
                            hits.insert((*permit, *list));
                        }
                    }
                    rest = suffix.split_once('.').map(|(_, rest)| rest);
                }
                let permitted = hits.iter().any(|(permit, _)| *permit);
                let expected: Vec<_> = hits.iter().filter(|_| !permitted).map(|(_, list)| format!("list-{list}")).collect();
                prop_assert_eq!(found(&lists, name), expected, "{}", name);
            }
        }
    }
}
