//! What an answer tells: names and addresses, for those who judge them.

use std::net::IpAddr;

use super::{Record, Response, ResponseError, Section, kind, u16_at};
use crate::Name;

const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;
const LONGEST_CHAIN: usize = 16;

/// An address in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// For how long, in seconds.
    pub ttl: u32,
}

/// An SVCB or HTTPS record (RFC 9460).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Where the service is; the root stands for the owner itself.
    pub target: Name,
    /// Addresses that a client may try before it asks for them.
    pub addresses: Vec<IpAddr>,
    /// For how long, in seconds.
    pub ttl: u32,
}

impl<'a> Response<'a> {
    /// The name asked for and those that it is an alias of, in order.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn chain(&self) -> Result<Vec<Name>, ResponseError> {
        let mut aliases = Vec::new();
        for record in self.answer_of(&[kind::CNAME])? {
            aliases.push((record.owner()?, record.name_in(0)?.0));
        }
        let mut name = self.question().name;
        let mut chain = Vec::with_capacity(1 + aliases.len());
        while chain.len() < LONGEST_CHAIN && !chain.contains(&name) {
            let next = aliases.iter().find(|(owner, _)| *owner == name);
            chain.push(name);
            let Some((_, target)) = next else { break };
            name = target.clone();
        }
        Ok(chain)
    }

    /// The addresses in the answer, of whatever name.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn addresses(&self) -> Result<Vec<Address>, ResponseError> {
        let records = self.answer_of(&[kind::A, kind::AAAA])?;
        let read = |record: &Record<'_>| {
            let address = match record.kind {
                kind::A => record.rdata.try_into().ok().map(|octets: [u8; 4]| octets.into()),
                _ => record.rdata.try_into().ok().map(|octets: [u8; 16]| octets.into()),
            };
            Ok(Address {
                address: address.ok_or(ResponseError::Record(record.kind))?,
                ttl: record.ttl,
            })
        };
        records.iter().map(read).collect()
    }

    /// The SVCB and HTTPS records of the answer.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn hints(&self) -> Result<Vec<Hint>, ResponseError> {
        let records = self.answer_of(&[kind::SVCB, kind::HTTPS])?;
        records.iter().map(hint).collect()
    }

    fn answer_of(&self, kinds: &[u16]) -> Result<Vec<Record<'a>>, ResponseError> {
        let mut found = Vec::new();
        for record in self.records() {
            let record = record?;
            if record.section == Section::Answer && kinds.contains(&record.kind) {
                found.push(record);
            }
        }
        Ok(found)
    }
}

fn hint(record: &Record<'_>) -> Result<Hint, ResponseError> {
    let wrong = ResponseError::Record(record.kind);
    let (target, at) = record.name_in(2)?;
    let mut rest = record.rdata.get(at..).ok_or(wrong)?;
    let mut addresses = Vec::new();
    while !rest.is_empty() {
        let parameter = u16_at(rest, 0).zip(u16_at(rest, 2)).ok_or(wrong)?;
        let body = rest.get(4..).ok_or(wrong)?;
        let (value, after) = body.split_at_checked(usize::from(parameter.1)).ok_or(wrong)?;
        match parameter.0 {
            IPV4_HINT => addresses.extend(value.as_chunks::<4>().0.iter().map(|v4| IpAddr::from(*v4))),
            IPV6_HINT => addresses.extend(value.as_chunks::<16>().0.iter().map(|v6| IpAddr::from(*v6))),
            _ => {}
        }
        rest = after;
    }
    Ok(Hint {
        target,
        addresses,
        ttl: record.ttl,
    })
}
