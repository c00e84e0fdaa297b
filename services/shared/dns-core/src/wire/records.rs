//! Writes records of an upstream anew: names decompressed, checked and compressed again, contents measured against their
//! types. A body that this module wrote holds no pointer but to names before it.

use super::{
    HEADER, kind,
    reader::{Record, ResponseError},
};
use crate::Name;

/// Pointers have fourteen bits.
const REACH: usize = 0x4000;
/// How many places are kept for names to point at, and how many parents of a name are looked up: what a hostile message
/// can cost is bounded by their product.
const MOST_PLACES: usize = 64;
const MOST_PARENTS: usize = 10;

/// Records, as they will stand behind a question of a certain length.
#[derive(Debug)]
pub(super) struct Body {
    /// The question as it will stand before them, lower-cased, with a header's room in front; then the records.
    message: Vec<u8>,
    start: usize,
    /// Where names begin that can be pointed at.
    places: Vec<u16>,
    /// Where the TTLs stand, from the beginning of the records.
    pub(super) ttls: Vec<u16>,
}

impl Body {
    /// `question`: name lower-cased, type, class.
    pub(super) fn new(question: &[u8]) -> Self {
        let mut message = vec![0; HEADER];
        message.extend_from_slice(question);
        let start = message.len();
        let mut body = Self {
            message,
            start,
            places: Vec::new(),
            ttls: Vec::new(),
        };
        let name = question
            .get(..question.len().saturating_sub(4))
            .unwrap_or_default();
        body.remember(HEADER, name);
        body
    }

    /// The records alone.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.message.get(self.start..).unwrap_or_default()
    }

    /// Appends a record with this TTL. Whether it found room.
    pub(super) fn push(
        &mut self,
        owner: &Name,
        record: &Record<'_>,
        ttl: u32,
    ) -> Result<bool, ResponseError> {
        let before = (self.message.len(), self.places.len());
        self.name(owner, true);
        self.message.extend_from_slice(&record.kind.to_be_bytes());
        self.message.extend_from_slice(&record.class.to_be_bytes());
        let ttl_at = self.message.len() - self.start;
        self.message.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.message.len();
        self.message.extend_from_slice(&[0, 0]);
        self.content(record)?;
        let length = u16::try_from(self.message.len() - length_at - 2);
        // a message with its OPT record has at most 65,535 bytes
        let (Ok(length), Ok(ttl_at), true) = (length, u16::try_from(ttl_at), self.message.len() < 0xff00)
        else {
            self.message.truncate(before.0);
            self.places.truncate(before.1);
            return Ok(false);
        };
        if let Some(place) = self.message.get_mut(length_at..length_at + 2) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.ttls.push(ttl_at);
        Ok(true)
    }

    fn content(&mut self, record: &Record<'_>) -> Result<(), ResponseError> {
        let wrong = ResponseError::Record(record.kind);
        match layout(record.kind) {
            Layout::Opaque => {
                self.message.extend_from_slice(record.rdata);
                return Ok(());
            }
            Layout::Size(size) if record.rdata.len() == size => {
                self.message.extend_from_slice(record.rdata);
                return Ok(());
            }
            Layout::Size(_) => return Err(wrong),
            Layout::Names {
                before,
                names,
                after,
                compress,
            } => {
                self.message
                    .extend_from_slice(record.rdata.get(..before).ok_or(wrong)?);
                let mut at = before;
                for _ in 0..names {
                    let (name, next) = record.name_in(at)?;
                    self.name(&name, compress);
                    at = next;
                }
                let rest = record
                    .rdata
                    .get(at..)
                    .filter(|rest| rest.len() == after)
                    .ok_or(wrong)?;
                self.message.extend_from_slice(rest);
            }
        }
        Ok(())
    }

    /// Writes a name, with a pointer for as much of its end as stands in the message already.
    fn name(&mut self, name: &Name, compress: bool) {
        let at = self.message.len();
        let whole = name.as_wire();
        let known = name
            .suffixes()
            .take(MOST_PARENTS)
            .filter(|_| compress)
            .find_map(|suffix| Some((suffix, self.find(suffix)?)));
        let Some((suffix, place)) = known else {
            self.message.extend_from_slice(whole);
            self.remember(at, whole);
            return;
        };
        let fresh = whole.get(..whole.len() - suffix.len()).unwrap_or_default();
        self.message.extend_from_slice(fresh);
        self.message.extend_from_slice(&(0xc000 | place).to_be_bytes());
        self.remember(at, fresh);
    }

    /// Keeps the places where the labels of `name` begin, which stands at `at`; it may end without its zero.
    fn remember(&mut self, mut at: usize, name: &[u8]) {
        for suffix in crate::name::suffixes(name) {
            let length = suffix.first().copied().unwrap_or(0);
            match u16::try_from(at) {
                Ok(place) if at < REACH && self.places.len() < MOST_PLACES => self.places.push(place),
                _ => return,
            }
            at += 1 + usize::from(length);
        }
    }

    fn find(&self, suffix: &[u8]) -> Option<u16> {
        self.places
            .iter()
            .copied()
            .find(|place| stands_at(&self.message, usize::from(*place), suffix))
    }
}

/// Whether the name at `at` is `suffix`. What stands there we wrote: pointers point backwards.
fn stands_at(message: &[u8], mut at: usize, mut suffix: &[u8]) -> bool {
    loop {
        let Some(length) = message.get(at).copied() else {
            return false;
        };
        if length >= 0xc0 {
            let Some(pointer) = super::u16_at(message, at) else {
                return false;
            };
            at = usize::from(pointer & 0x3fff);
            continue;
        }
        let label = 1 + usize::from(length);
        match (message.get(at..at + label), suffix.split_at_checked(label)) {
            (Some(own), Some((wanted, rest))) if own == wanted => {
                if length == 0 {
                    return true;
                }
                (at, suffix) = (at + label, rest);
            }
            _ => return false,
        }
    }
}

/// What stands in a content.
enum Layout {
    /// Anything without compressed names.
    Opaque,
    /// So many bytes.
    Size(usize),
    /// Bytes, names, bytes. Names are compressed only in the types of RFC 1035 (RFC 3597 §4).
    Names {
        before: usize,
        names: usize,
        after: usize,
        compress: bool,
    },
}

fn layout(kind: u16) -> Layout {
    let names = |before, names, after, compress| Layout::Names {
        before,
        names,
        after,
        compress,
    };
    match kind {
        kind::A => Layout::Size(4),
        kind::AAAA => Layout::Size(16),
        kind::NS | kind::CNAME | kind::PTR => names(0, 1, 0, true),
        kind::SOA => names(0, 2, 20, true),
        kind::MX => names(2, 1, 0, true),
        // MD, MF, MB, MG, MR, DNAME
        3 | 4 | 7 | 8 | 9 | kind::DNAME => names(0, 1, 0, false),
        // MINFO, RP
        14 | 17 => names(0, 2, 0, false),
        // AFSDB, RT, KX
        18 | 21 | 36 => names(2, 1, 0, false),
        // PX
        26 => names(2, 2, 0, false),
        // SRV
        33 => names(6, 1, 0, false),
        _ => Layout::Opaque,
    }
}
