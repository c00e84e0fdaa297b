//! An answer as it is kept: records written anew, ready to be sent behind any client's question, with the places of their
//! TTLs.

use super::{
    Key, Query, Reply, Response, ResponseError, Section, Writer, Written, code, extended, kind,
    reader::Record, records::Body,
};
use crate::Name;

/// What is left of a stale answer's life, in seconds (RFC 8767 §4).
const STALE_TTL: u32 = 30;
/// A chain of more names than this is a loop or a joke.
const LONGEST_CHAIN: usize = 16;

/// For how long answers are believed, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// No TTL below.
    pub min: u32,
    /// None above.
    pub max: u32,
    /// None above, for "there is no such thing" (RFC 2308 §5 advises one to three hours).
    pub negative_max: u32,
    /// For failures (RFC 9520 §3.2: at least one second, at most five minutes).
    pub failure: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            min: 0,
            max: 86_400,
            negative_max: 3_600,
            failure: 5,
        }
    }
}

/// What sort of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// There are records.
    Positive,
    /// The name is there, but no such record.
    NoData,
    /// There is no such name.
    NxDomain,
    /// SERVFAIL, REFUSED and their like: nobody knows.
    Failure,
}

/// An answer, checked and ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The records, as they stand behind a question of `question_length` bytes; their TTLs are those at its arrival.
    pub(crate) body: Box<[u8]>,
    /// Where in `body` the TTLs stand.
    pub(crate) ttls: Box<[u16]>,
    pub(crate) counts: [u16; 3],
    pub(crate) question_length: u16,
    pub(crate) code: u16,
    pub(crate) authentic: bool,
    pub(crate) kind: Kind,
    pub(crate) lifetime: u32,
    pub(crate) error: Option<(u16, Box<str>)>,
}

/// How old an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// So many seconds, within its life.
    Fresh(u32),
    /// Beyond it; its records are given for another 30 seconds.
    Stale,
}

impl Answer {
    /// Takes from an upstream's message what answers the question `key`: the records along the chain of its names, in that
    /// order; the proof of a negative answer; DNSSEC records only where they were asked for. Additional records are left
    /// out: they answer what nobody asked, unchecked.
    ///
    /// # Errors
    /// Where the message cannot be read to its end, or its contents do not fit their types.
    pub fn from_response(response: &Response<'_>, key: &Key, bounds: &Bounds) -> Result<Self, ResponseError> {
        let mut records = Vec::new();
        for record in response.records() {
            let record = record?;
            if record.class == key.class() && record.section != Section::Additional {
                records.push((record.owner()?, record));
            }
        }
        let mut taken = Taken::new(key, bounds);
        let code = response.code();
        if matches!(code, code::NOERROR | code::NXDOMAIN) {
            taken.chain(&records)?;
            taken.proof(&records, response.negative_ttl())?;
        }
        let error = response.extended_error();
        Ok(Self {
            authentic: response.is_authentic(),
            error: error.map(|(code, text)| (code, String::from_utf8_lossy(text).into())),
            ..taken.into_answer(code, response)
        })
    }

    /// A failure with its reason.
    pub fn failure(key: &Key, code: u16, extended: u16, text: &str, lifetime: u32) -> Self {
        Self {
            body: Box::default(),
            ttls: Box::default(),
            counts: [0; 3],
            question_length: u16::try_from(key.question().len()).unwrap_or(0),
            code,
            authentic: false,
            kind: Kind::Failure,
            lifetime,
            error: Some((extended, text.into())),
        }
    }

    /// Writes it for a client. An answer to another question is a failure.
    pub fn write(&self, query: &Query, age: Age, reply: &Reply, out: &mut Vec<u8>) -> Written {
        let mut writer = Writer::begin(query, out);
        if query.as_asked().len() != usize::from(self.question_length) {
            return writer.finish(code::SERVFAIL, reply);
        }
        let start = writer.records(&self.body, self.counts);
        let body = writer.buffer().get_mut(start..).unwrap_or_default();
        for place in &self.ttls {
            if let Some(ttl) = body
                .get_mut(usize::from(*place)..)
                .and_then(|rest| rest.first_chunk_mut())
            {
                *ttl = match age {
                    Age::Fresh(age) => u32::from_be_bytes(*ttl).saturating_sub(age),
                    Age::Stale => STALE_TTL,
                }
                .to_be_bytes();
            }
        }
        if let Some((code, text)) = &self.error {
            writer.extended_error(*code, text);
        } else if age == Age::Stale {
            writer.extended_error(extended::STALE_ANSWER, "the upstreams fail");
        }
        writer.authentic(self.authentic).finish(self.code, reply)
    }

    /// What sort it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The response code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// For how long it holds, in seconds; 0 for what may not be kept.
    pub fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Whether DNSSEC proves it.
    pub fn is_authentic(&self) -> bool {
        self.authentic
    }

    /// Sets whether DNSSEC proves it.
    #[must_use]
    pub fn with_authentic(mut self, authentic: bool) -> Self {
        self.authentic = authentic;
        self
    }

    /// The Extended DNS Error that came with it: code and text.
    pub fn extended_error(&self) -> Option<(u16, &str)> {
        self.error.as_ref().map(|(code, text)| (*code, &**text))
    }

    /// The bytes that it takes.
    pub fn cost(&self) -> usize {
        let text = self.error.as_ref().map_or(0, |(_, text)| text.len());
        size_of::<Self>() + self.body.len() + self.ttls.len() * 2 + text
    }

    /// As a message of its own with the id 0, as [`Response::parse`] reads it.
    pub fn to_message(&self, key: &Key) -> Vec<u8> {
        let [answers, authorities, additional] = self.counts;
        let flags = 0x8180 | u16::from(self.authentic) << 5 | self.code & 0x0f;
        let head = [0, flags, 1, answers, authorities, additional].map(u16::to_be_bytes);
        [head.as_flattened(), key.question(), &self.body].concat()
    }
}

/// What was taken of a message so far.
struct Taken<'a> {
    key: &'a Key,
    bounds: &'a Bounds,
    body: Body,
    counts: [u16; 3],
    smallest: Option<u32>,
    negative: Option<u32>,
    has_wanted: bool,
}

type Owned<'a> = (Name, Record<'a>);

impl<'a> Taken<'a> {
    fn new(key: &'a Key, bounds: &'a Bounds) -> Self {
        Self {
            key,
            bounds,
            body: Body::new(key.question()),
            counts: [0; 3],
            smallest: None,
            negative: None,
            has_wanted: false,
        }
    }

    fn chain(&mut self, records: &[Owned<'_>]) -> Result<(), ResponseError> {
        let answers = || {
            let all = records.iter().enumerate();
            all.filter(|(_, (_, record))| record.section == Section::Answer)
        };
        // one that makes aliases of many names of the chain is there once all the same
        let mut taken = vec![false; records.len()];
        let mut is_new = |place: usize| {
            taken
                .get_mut(place)
                .is_some_and(|taken| !std::mem::replace(taken, true))
        };
        let mut chain: Vec<Name> = vec![self.key.to_question().name];
        for at in 0..LONGEST_CHAIN {
            let Some(name) = chain.get(at).cloned() else { break };
            // the record that makes an alias of all names below another stands before the alias that it made
            for (place, (owner, record)) in answers().filter(|(_, (_, record))| covers(record, kind::DNAME)) {
                if owner != &name && name.is_within(owner) && is_new(place) {
                    self.take(owner, record)?;
                }
            }
            for (place, (owner, record)) in answers().filter(|(_, (owner, _))| owner == &name) {
                if is_new(place) {
                    self.take(owner, record)?;
                }
                if record.kind == kind::CNAME && self.key.kind() != kind::CNAME && chain.len() == at + 1 {
                    let (target, _) = record.name_in(0)?;
                    if !chain.contains(&target) {
                        chain.push(target);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, owner: &Name, record: &Record<'_>) -> Result<(), ResponseError> {
        let wanted = self.key.kind();
        let signature = record.kind == kind::RRSIG && self.key.dnssec_ok();
        if record.kind != wanted && !matches!(record.kind, kind::CNAME | kind::DNAME) && !signature {
            return Ok(());
        }
        let ttl = record
            .ttl
            .clamp(self.bounds.min, self.bounds.max.max(self.bounds.min));
        self.push(owner, record, ttl, 0)?;
        self.smallest = Some(self.smallest.map_or(ttl, |smallest| smallest.min(ttl)));
        self.has_wanted |= record.kind == wanted;
        Ok(())
    }

    /// The authority part: for negative answers, and for those who check signatures.
    fn proof(&mut self, records: &[Owned<'_>], negative: Option<u32>) -> Result<(), ResponseError> {
        let top = self.bounds.negative_max.max(self.bounds.min);
        self.negative = negative.map(|ttl| ttl.clamp(self.bounds.min, top));
        let authority = records
            .iter()
            .filter(|(_, record)| record.section == Section::Authority);
        for (owner, record) in authority {
            let wanted = match record.kind {
                kind::SOA => !self.has_wanted,
                kind::RRSIG | kind::NSEC | kind::NSEC3 => self.key.dnssec_ok(),
                _ => false,
            };
            if wanted {
                let ttl = self
                    .negative
                    .map_or(record.ttl, |negative| record.ttl.min(negative));
                self.push(owner, record, ttl, 1)?;
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        owner: &Name,
        record: &Record<'_>,
        ttl: u32,
        section: usize,
    ) -> Result<(), ResponseError> {
        if !self.body.push(owner, record, ttl)? {
            return Err(ResponseError::TooLarge);
        }
        if let Some(count) = self.counts.get_mut(section) {
            *count += 1;
        }
        Ok(())
    }

    fn into_answer(self, code: u16, response: &Response<'_>) -> Answer {
        let kind = match code {
            code::NOERROR if self.has_wanted => Kind::Positive,
            code::NOERROR => Kind::NoData,
            code::NXDOMAIN => Kind::NxDomain,
            _ => Kind::Failure,
        };
        let lifetime = match kind {
            _ if response.is_truncated() => 0,
            Kind::Positive => self.smallest.unwrap_or(0),
            Kind::NoData | Kind::NxDomain => {
                let negative = self.negative.unwrap_or(0);
                self.smallest.map_or(negative, |smallest| smallest.min(negative))
            }
            Kind::Failure => self.bounds.failure,
        };
        Answer {
            body: self.body.as_bytes().into(),
            ttls: self.body.ttls.into(),
            counts: self.counts,
            question_length: u16::try_from(self.key.question().len()).unwrap_or(0),
            code,
            authentic: false,
            kind,
            lifetime,
            error: None,
        }
    }
}

/// Whether a record is of the type, or signs records of it.
fn covers(record: &Record<'_>, kind: u16) -> bool {
    record.kind == kind || record.kind == kind::RRSIG && super::u16_at(record.rdata, 0) == Some(kind)
}
