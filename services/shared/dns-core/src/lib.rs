//! The parts of the DNS service that decide: names, messages, the cache, the lists. Pure: no IO, no clock, no async; time
//! comes in as an argument.

pub mod cache;
pub mod lists;
pub mod name;
mod siphash;
pub mod special;
pub mod told;
pub mod wire;

pub use name::{Name, NameError};

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Question {
    /// The name, lower-cased.
    pub name: Name,
    /// The type of the records wanted, as the registry numbers them (1 = A, 28 = AAAA, 65 = HTTPS).
    pub kind: u16,
    /// The class; 1 = IN.
    pub class: u16,
}
