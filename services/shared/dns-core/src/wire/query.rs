//! What a client asks, read without a single allocation.

use super::{CLASS_IN, Edns, HEADER, code, kind, u16_at, u32_at};
use crate::{
    Name, Question,
    name::{MAX_NAME, length_of},
};

/// Type and class behind the name.
const TAIL: usize = 4;
const QUESTION: usize = MAX_NAME + TAIL;
const KEY: usize = QUESTION + 1;
/// More records than OPT and a signature behind a query are nobody's query.
const MOST_ADDITIONAL: u16 = 4;

const RD: u16 = 0x0100;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;

/// A query that was understood. Owns its bytes, so that it can wait for an upstream.
#[derive(Clone)]
pub struct Query {
    id: u16,
    flags: u16,
    /// As the client wrote it, in its own letters.
    question: [u8; QUESTION],
    key: Key,
    edns: Option<Edns>,
}

/// Under what an answer is kept: the name lower-cased, type, class, and one byte with the bits DO and CD, which ask for
/// other records and other checks.
#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY],
    length: u16,
}

/// Why something is no query that gets an answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Too short for a header, or itself a response: an answer could start a quarrel between two servers.
    Silence,
    /// Gets an error: its id, the bits to repeat, the code.
    Error {
        /// The id.
        id: u16,
        /// The flags that it came with.
        flags: u16,
        /// FORMERR or NOTIMP.
        code: u16,
    },
}

impl Unfit {
    /// Writes the header that says so; nothing for [`Unfit::Silence`].
    pub fn write(self, out: &mut Vec<u8>) {
        out.clear();
        if let Self::Error { id, flags, code } = self {
            // QR, the operation and RD as asked, RA
            let flags = 0x8080 | flags & 0x7900 | code & 0x0f;
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&flags.to_be_bytes());
            out.extend_from_slice(&[0; 8]);
        }
    }
}

impl Query {
    /// Reads a datagram, or a message from a stream.
    ///
    /// # Errors
    /// Says what is to be said to the sender, if anything.
    pub fn parse(message: &[u8]) -> Result<Self, Unfit> {
        let (Some(id), Some(flags), Some(_)) =
            (u16_at(message, 0), u16_at(message, 2), message.get(..HEADER))
        else {
            return Err(Unfit::Silence);
        };
        if flags & 0x8000 != 0 {
            return Err(Unfit::Silence);
        }
        let error = |code| Unfit::Error { id, flags, code };
        if flags & 0x7800 != 0 {
            return Err(error(code::NOTIMP));
        }
        Self::read(id, flags, message).ok_or(error(code::FORMERR))
    }

    fn read(id: u16, flags: u16, message: &[u8]) -> Option<Self> {
        let (questions, additional) = (u16_at(message, 4)?, u16_at(message, 10)?);
        let others = u32_at(message, 6)?;
        if questions != 1 || others != 0 || additional > MOST_ADDITIONAL {
            return None;
        }
        let rest = message.get(HEADER..)?;
        let length = length_of(rest).ok()? + TAIL;
        let asked = rest.get(..length)?;
        let edns = additional_edns(rest.get(length..)?, additional)?;
        let mut question = [0; QUESTION];
        question.get_mut(..length)?.copy_from_slice(asked);
        let dnssec_ok = edns.is_some_and(|edns| edns.dnssec_ok);
        Some(Self {
            id,
            flags,
            question,
            key: Key::of(asked, dnssec_ok, flags & CD != 0)?,
            edns,
        })
    }

    /// The code with which this is to be answered at once, whoever asks: an EDNS version of the future, a class or type
    /// that no resolver resolves. (`ANY` has an answer of its own, [`super::minimal_any`].)
    pub fn refused_with(&self) -> Option<u16> {
        if self.edns.is_some_and(|edns| edns.version != 0) {
            return Some(code::BADVERS);
        }
        if self.class() != CLASS_IN {
            return Some(code::REFUSED);
        }
        match self.kind() {
            kind::OPT | 0 => Some(code::FORMERR),
            251 | 252 => Some(code::REFUSED), // zone transfers
            128..=254 => Some(code::NOTIMP),  // meta types
            _ => None,
        }
    }

    /// The id.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// Under what its answer is kept.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Type wanted.
    pub fn kind(&self) -> u16 {
        self.key.kind()
    }

    /// Class wanted.
    pub fn class(&self) -> u16 {
        self.key.class()
    }

    /// The name in wire form, lower-cased.
    pub fn name(&self) -> &[u8] {
        self.key.name()
    }

    /// Name, type and class, the name lower-cased.
    pub fn to_question(&self) -> Question {
        self.key.to_question()
    }

    /// The question's bytes as the client wrote them: name in its own letters (0x20), type, class.
    pub fn as_asked(&self) -> &[u8] {
        self.question
            .get(..self.key.question_length())
            .unwrap_or_default()
    }

    /// The OPT record.
    pub fn edns(&self) -> Option<&Edns> {
        self.edns.as_ref()
    }

    /// Whether the client wants DNSSEC records (DO).
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Whether the client validates itself (CD).
    pub fn checking_disabled(&self) -> bool {
        self.flags & CD != 0
    }

    /// Whether the client wants the server to find out (RD).
    pub fn recursion_desired(&self) -> bool {
        self.flags & RD != 0
    }

    /// Whether the client wants to know if DNSSEC proved the answer: it says AD or DO (RFC 6840 §5.7).
    pub fn wants_authentic(&self) -> bool {
        self.flags & AD != 0 || self.dnssec_ok()
    }

    /// The bits of the flags that an answer repeats: RD and CD.
    pub(super) fn repeated_flags(&self) -> u16 {
        self.flags & (RD | CD)
    }
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Query({} {:?} {:?})", self.id, self.key, self.edns)
    }
}

/// The OPT record among `count` records: there may be one, and the root must own it.
fn additional_edns(mut rest: &[u8], count: u16) -> Option<Option<Edns>> {
    let mut found = None;
    for _ in 0..count {
        let name = owner_length(rest)?;
        let head = rest.get(name..)?;
        let length = usize::from(u16_at(head, 8)?);
        let (content, after) = head.get(10..)?.split_at_checked(length)?;
        if u16_at(head, 0)? == kind::OPT {
            if found.is_some() || name != 1 {
                return None;
            }
            found = Some(Edns::read(u16_at(head, 2)?, u32_at(head, 4)?, content)?);
        }
        rest = after;
    }
    Some(found)
}

/// The bytes of an owner, which may end in a pointer.
fn owner_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            64..=191 => return None,
        }
    }
}

impl Key {
    /// For a question.
    pub fn new(question: &Question, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let mut bytes = [0; KEY];
        let tail = [question.kind.to_be_bytes(), question.class.to_be_bytes()].concat();
        let bits = u8::from(dnssec_ok) | u8::from(checking_disabled) << 1;
        let all = question.name.as_wire().iter().chain(&tail).chain([&bits]);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = *from;
        }
        Self {
            bytes,
            length: u16::try_from(question.name.as_wire().len() + TAIL + 1).unwrap_or(0),
        }
    }

    /// `asked`: a name in any letters, type, class.
    fn of(asked: &[u8], dnssec_ok: bool, checking_disabled: bool) -> Option<Self> {
        let mut bytes = [0; KEY];
        let (name, _) = asked.split_at_checked(asked.len().checked_sub(TAIL)?)?;
        bytes.get_mut(..asked.len())?.copy_from_slice(asked);
        // type and class are no letters
        bytes.get_mut(..name.len())?.make_ascii_lowercase();
        *bytes.get_mut(asked.len())? = u8::from(dnssec_ok) | u8::from(checking_disabled) << 1;
        Some(Self {
            bytes,
            length: u16::try_from(asked.len() + 1).ok()?,
        })
    }

    /// From what [`Key::as_bytes`] gave.
    pub fn from_bytes(given: &[u8]) -> Option<Self> {
        let name = length_of(given).ok()?;
        let bits = *given.get(name + TAIL)?;
        if given.len() != name + TAIL + 1 || bits > 3 {
            return None;
        }
        Self::of(given.get(..name + TAIL)?, bits & 1 != 0, bits & 2 != 0)
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// The name in wire form, lower-cased.
    pub fn name(&self) -> &[u8] {
        self.bytes
            .get(..self.question_length().saturating_sub(TAIL))
            .unwrap_or_default()
    }

    /// Name, type and class.
    pub fn question(&self) -> &[u8] {
        self.bytes.get(..self.question_length()).unwrap_or_default()
    }

    /// Type.
    pub fn kind(&self) -> u16 {
        u16_at(&self.bytes, self.question_length().saturating_sub(4)).unwrap_or(0)
    }

    /// Class.
    pub fn class(&self) -> u16 {
        u16_at(&self.bytes, self.question_length().saturating_sub(2)).unwrap_or(0)
    }

    /// Whether DNSSEC records are wanted.
    pub fn dnssec_ok(&self) -> bool {
        self.as_bytes().last().is_some_and(|bits| bits & 1 != 0)
    }

    /// Whether the client validates itself.
    pub fn checking_disabled(&self) -> bool {
        self.as_bytes().last().is_some_and(|bits| bits & 2 != 0)
    }

    /// Name, type and class as a value of its own.
    pub fn to_question(&self) -> Question {
        let name = Name::read(self.name()).map_or_else(|_| Name::root(), |(name, _)| name);
        Question {
            name,
            kind: self.kind(),
            class: self.class(),
        }
    }

    fn question_length(&self) -> usize {
        usize::from(self.length).saturating_sub(1)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_question())
    }
}
