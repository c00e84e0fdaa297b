//! What an upstream sent, read record by record. Bounded: a compression pointer points backwards, always further than the
//! one before.

use super::{HEADER, PLAIN_SIZE, code, kind, u16_at, u32_at};
use crate::{
    Name, NameError, Question,
    name::{MAX_LABEL, MAX_NAME},
};

/// Why an upstream's message cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It ends before its header, question or records do.
    #[error("the message is cut short")]
    Short,
    /// QR is not set, or another operation than a query.
    #[error("the message is no response to a query")]
    NoResponse,
    /// Not exactly one question.
    #[error("the message repeats no question, or several")]
    Questions,
    /// A name in it is none.
    #[error("a name in the message is none: {0}")]
    Name(#[from] NameError),
    /// The content of a record does not fit its type.
    #[error("the content of a record of type {0} does not fit its type")]
    Record(u16),
    /// Its records, names in full, do not fit into a message.
    #[error("the records do not fit into one message")]
    TooLarge,
}

/// In which part of a message a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who may say so, or why there is nothing.
    Authority,
    /// Hints.
    Additional,
}

/// A response, its header and question read.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    message: &'a [u8],
    flags: u16,
    records_at: usize,
    counts: [u16; 3],
}

/// A record as it stands in a message.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The part of the message.
    pub section: Section,
    /// Type.
    pub kind: u16,
    /// Class; of OPT the size.
    pub class: u16,
    /// Seconds; what is beyond 2³¹ counts as 0 (RFC 2181 §8). Of OPT as it stands.
    pub ttl: u32,
    /// The content. Names in it may be compressed: [`Record::name_in`].
    pub rdata: &'a [u8],
    message: &'a [u8],
    owner_at: usize,
    rdata_at: usize,
}

/// The records of a response in order; ends behind the first that cannot be read.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    message: &'a [u8],
    at: usize,
    counts: [u16; 3],
}

impl<'a> Response<'a> {
    /// Reads header and question.
    ///
    /// # Errors
    /// Says why it is no response to one question.
    pub fn parse(message: &'a [u8]) -> Result<Self, ResponseError> {
        let field = |at| u16_at(message, at).ok_or(ResponseError::Short);
        message.get(..HEADER).ok_or(ResponseError::Short)?;
        let flags = field(2)?;
        if flags & 0xf800 != 0x8000 {
            return Err(ResponseError::NoResponse);
        }
        if field(4)? != 1 {
            return Err(ResponseError::Questions);
        }
        let name = crate::name::length_of(message.get(HEADER..).unwrap_or_default())?;
        let records_at = HEADER + name + 4;
        message.get(..records_at).ok_or(ResponseError::Short)?;
        Ok(Self {
            message,
            flags,
            records_at,
            counts: [field(6)?, field(8)?, field(10)?],
        })
    }

    /// The id.
    pub fn id(&self) -> u16 {
        u16_at(self.message, 0).unwrap_or(0)
    }

    /// Whether it has this id and repeats this question, in whatever letters.
    pub fn answers(&self, id: u16, question: &Question) -> bool {
        let own = self.question_bytes();
        self.id() == id
            && own.len() == question.name.as_wire().len() + 4
            && own
                .get(..own.len().saturating_sub(4))
                .is_some_and(|name| name.eq_ignore_ascii_case(question.name.as_wire()))
            && self.kind() == question.kind
            && u16_at(own, own.len().saturating_sub(2)) == Some(question.class)
    }

    /// The question as it stands: name, type, class.
    pub fn question_bytes(&self) -> &'a [u8] {
        self.message.get(HEADER..self.records_at).unwrap_or_default()
    }

    /// The question.
    pub fn question(&self) -> Question {
        let own = self.question_bytes();
        Question {
            name: Name::read(own).map_or_else(|_| Name::root(), |(name, _)| name),
            kind: self.kind(),
            class: u16_at(own, own.len().saturating_sub(2)).unwrap_or(0),
        }
    }

    fn kind(&self) -> u16 {
        u16_at(self.message, self.records_at.saturating_sub(4)).unwrap_or(0)
    }

    /// The response code, with its upper bits from EDNS.
    pub fn code(&self) -> u16 {
        let high = self.opt().map_or(0, |opt| (opt.ttl >> 24) as u16);
        high << 4 | self.flags & 0x0f
    }

    /// Whether the name exists but not with such records: no error, and no record of the type in the answer.
    pub fn is_empty(&self) -> bool {
        self.code() == code::NOERROR && self.counts.first() == Some(&0)
    }

    /// Whether it was cut (TC).
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// Whether its sender says that DNSSEC proves it (AD).
    pub fn is_authentic(&self) -> bool {
        self.flags & 0x0020 != 0
    }

    /// Its OPT record.
    pub fn opt(&self) -> Option<Record<'a>> {
        self.records()
            .map_while(Result::ok)
            .find(|record| record.kind == kind::OPT && record.section == Section::Additional)
    }

    /// The first Extended DNS Error: code and text (RFC 8914).
    pub fn extended_error(&self) -> Option<(u16, &'a [u8])> {
        let mut rest = self.opt()?.rdata;
        loop {
            let length = usize::from(u16_at(rest, 2)?);
            let (content, after) = rest.get(4..)?.split_at_checked(length)?;
            if u16_at(rest, 0) == Some(15) {
                return Some((u16_at(content, 0)?, content.get(2..)?));
            }
            rest = after;
        }
    }

    /// All records, those of the answer first.
    pub fn records(&self) -> Records<'a> {
        Records {
            message: self.message,
            at: self.records_at,
            counts: self.counts,
        }
    }

    /// The smallest TTL of the answer's records; none where there are none.
    pub fn smallest_ttl(&self) -> Option<u32> {
        self.records()
            .map_while(Result::ok)
            .filter(|record| record.section == Section::Answer && record.kind != kind::OPT)
            .map(|record| record.ttl)
            .min()
    }

    /// How long it may be believed that there is nothing: the smaller of TTL and last field of the SOA record in the
    /// authority part (RFC 2308 §5); none without one.
    pub fn negative_ttl(&self) -> Option<u32> {
        let mut records = self.records().map_while(Result::ok);
        let soa = records.find(|record| record.section == Section::Authority && record.kind == kind::SOA)?;
        let minimum = u32_at(soa.rdata, soa.rdata.len().checked_sub(4)?)?;
        Some(soa.ttl.min(minimum))
    }
}

impl<'a> Record<'a> {
    /// Whose record it is.
    ///
    /// # Errors
    /// [`ResponseError::Name`].
    pub fn owner(&self) -> Result<Name, ResponseError> {
        let (name, _) = name_at(self.message, self.owner_at)?;
        Ok(name)
    }

    /// The name that begins at `offset` in the content, and where in the content the next field begins.
    ///
    /// # Errors
    /// [`ResponseError::Name`]; [`ResponseError::Record`] where the name does not end within the content.
    pub fn name_in(&self, offset: usize) -> Result<(Name, usize), ResponseError> {
        let (name, end) = name_at(self.message, self.rdata_at + offset)?;
        let end = end - self.rdata_at;
        if end > self.rdata.len() {
            return Err(ResponseError::Record(self.kind));
        }
        Ok((name, end))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ResponseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (section, count) = sections
            .into_iter()
            .zip(&mut self.counts)
            .find(|(_, count)| **count > 0)?;
        *count -= 1;
        let record = read(self.message, self.at, section);
        match &record {
            Ok(record) => self.at = record.rdata_at + record.rdata.len(),
            Err(_) => self.counts = [0; 3],
        }
        Some(record)
    }
}

fn read(message: &[u8], at: usize, section: Section) -> Result<Record<'_>, ResponseError> {
    let head = after_name(message, at)?;
    let fields = (|| {
        let length = usize::from(u16_at(message, head + 8)?);
        let rdata = message.get(head + 10..head + 10 + length)?;
        Some((
            u16_at(message, head)?,
            u16_at(message, head + 2)?,
            u32_at(message, head + 4)?,
            rdata,
        ))
    })();
    let (kind, class, ttl, rdata) = fields.ok_or(ResponseError::Short)?;
    let is_time = kind != kind::OPT;
    Ok(Record {
        section,
        kind,
        class,
        ttl: if is_time && ttl > i32::MAX as u32 { 0 } else { ttl },
        rdata,
        message,
        owner_at: at,
        rdata_at: head + 10,
    })
}

/// Where the name at `at` ends; a compression pointer ends it.
fn after_name(message: &[u8], mut at: usize) -> Result<usize, ResponseError> {
    loop {
        let length = usize::from(*message.get(at).ok_or(ResponseError::Short)?);
        match length {
            0 => return Ok(at + 1),
            0xc0.. => return Ok(at + 2),
            1..=MAX_LABEL => at += 1 + length,
            _ => return Err(NameError::BadPointer.into()),
        }
    }
}

/// The name at `start` with its pointers followed, and where it ends in place.
pub(super) fn name_at(message: &[u8], start: usize) -> Result<(Name, usize), NameError> {
    let mut wire = Vec::with_capacity(64);
    let (mut at, mut fragment, mut end) = (start, start, None);
    loop {
        let length = *message.get(at).ok_or(NameError::Truncated)?;
        if length >= 0xc0 {
            let pointer = u16_at(message, at).ok_or(NameError::Truncated)?;
            let target = usize::from(pointer & 0x3fff);
            end = end.or(Some(at + 2));
            if target >= fragment {
                return Err(NameError::BadPointer);
            }
            (at, fragment) = (target, target);
            continue;
        }
        let label = message
            .get(at..at + 1 + usize::from(length))
            .ok_or(NameError::Truncated)?;
        if usize::from(length) > MAX_LABEL {
            return Err(NameError::BadPointer);
        }
        wire.extend_from_slice(label);
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        at += label.len();
        if length == 0 {
            break;
        }
    }
    let (name, _) = Name::read(&wire)?;
    Ok((name, end.unwrap_or(at)))
}

/// What `size` a client's datagram may have, by its OPT record and the server's own bound.
pub(super) fn fitting(size: Option<u16>, cap: u16) -> u16 {
    size.unwrap_or(PLAIN_SIZE).min(cap).max(PLAIN_SIZE)
}
