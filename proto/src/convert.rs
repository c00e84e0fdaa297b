//! Wire types to domain types and back.
//!
//! Invariant: what comes out of here as a type of `verdict` is valid as that type demands; nothing behind this door checks
//! again. An [`Error`] names the field, and becomes `INVALID_ARGUMENT`.
//!
//! Towards the wire it is `From` (of a reference where the value is not `Copy`), and cannot fail.

mod decision;
mod flow;
mod gate17;
mod policy;
mod process;

pub use gate17::app;

use std::{fmt, net::IpAddr};

use crate::resolver::v1::Miss;

/// A message that says nothing sensible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Error {
    /// Which field, from the outermost message on: `profiles[3].rules[0].action`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It must be set.
    Missing,
    /// A number that this version has no word for.
    Unknown(i32),
    /// Not a value of its kind.
    Invalid {
        /// What it is.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unknown(number) => write!(f, "is {number}, which this version does not know"),
            Self::Invalid { value, expected } => write!(f, "is {value}, it must be {expected}"),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

impl Error {
    fn missing(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            problem: Problem::Missing,
        }
    }

    fn invalid(field: &str, value: impl fmt::Display, expected: &'static str) -> Self {
        Self {
            field: field.to_owned(),
            problem: Problem::Invalid {
                value: value.to_string(),
                expected,
            },
        }
    }

    /// The same error, seen from the message that holds the failing one.
    fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

/// Converts a message that must be there.
fn required<W, D: TryFrom<W, Error = Error>>(field: &str, value: Option<W>) -> Result<D, Error> {
    let value = value.ok_or_else(|| Error::missing(field))?;
    value.try_into().map_err(|error: Error| error.within(field))
}

/// Converts each of a list; the error says which.
fn each<W, D: TryFrom<W, Error = Error>>(field: &str, values: Vec<W>) -> Result<Vec<D>, Error> {
    let converted = values.into_iter().enumerate().map(|(number, value)| {
        D::try_from(value).map_err(|error| error.within(format_args!("{field}[{number}]")))
    });
    converted.collect()
}

/// Narrows a number.
fn narrow<T: TryFrom<u32>>(field: &str, value: u32, expected: &'static str) -> Result<T, Error> {
    T::try_from(value).map_err(|_| Error::invalid(field, value, expected))
}

/// An enum's number as its wire type, and that as the domain type; 0 is missing.
fn word<W, D>(field: &str, number: i32) -> Result<D, Error>
where
    W: TryFrom<i32>,
    Option<D>: From<W>,
{
    let unknown = || Error {
        field: field.to_owned(),
        problem: Problem::Unknown(number),
    };
    let wire = W::try_from(number).map_err(|_| unknown())?;
    Option::<D>::from(wire).ok_or_else(|| Error::missing(field))
}

/// The same where 0 says that it is not set.
fn optional_word<W, D>(field: &str, number: i32) -> Result<Option<D>, Error>
where
    W: TryFrom<i32>,
    Option<D>: From<W>,
{
    if number == 0 {
        Ok(None)
    } else {
        word(field, number).map(Some)
    }
}

/// 4 or 16 octets; a v4-mapped address becomes the IPv4 address that it stands for.
pub fn address(field: &str, octets: &[u8]) -> Result<IpAddr, Error> {
    let invalid = || Error::invalid(field, format_args!("{} octets", octets.len()), "4 or 16 octets");
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
    address
        .map(|address| address.to_canonical())
        .map_err(|_| invalid())
}

/// As text; "" for what are not 4 or 16 octets. A v4-mapped address stays one.
pub fn address_text(octets: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
    address.map_or_else(|_| String::new(), |address| address.to_string())
}

/// Why a process is not known, as one stable word; "" where nothing is said.
pub const fn miss_text(miss: Miss) -> &'static str {
    match miss {
        Miss::Unspecified => "",
        Miss::NoSocket => "no-socket",
        Miss::NoProcess => "no-process",
        Miss::Timeout => "timeout",
        Miss::Searching => "searching",
    }
}

/// 4 or 16 octets, network order.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Both ways between a wire enum and a domain enum of the same words.
macro_rules! words {
    ($wire:ty, $domain:ty, [$($word:ident),+ $(,)?]) => {
        impl From<$domain> for $wire {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$word => Self::$word),+ }
            }
        }

        impl From<$wire> for Option<$domain> {
            fn from(value: $wire) -> Self {
                match value {
                    <$wire>::Unspecified => None,
                    $(<$wire>::$word => Some(<$domain>::$word)),+
                }
            }
        }

        impl TryFrom<$wire> for $domain {
            type Error = $crate::convert::Error;

            fn try_from(value: $wire) -> Result<Self, Self::Error> {
                Option::from(value).ok_or_else(|| $crate::convert::Error::missing(stringify!($domain)))
            }
        }
    };
}
use words;

#[cfg(test)]
mod tests;
