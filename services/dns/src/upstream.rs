//! Upstream servers: who is asked what this host's own answers do not tell, and how nobody on the way reads or changes it.
//!
//! Invariants: a query for an encrypted upstream leaves this host encrypted, to a server that proved its name, or not at
//! all; servers in the clear are asked only where the owner named them so, or where there are none but the system's own.
//! An answer is handed on only when it fits the query that was sent.

use std::{sync::Arc, time::Duration};

use dns_core::Question;

mod bootstrap;
mod carried;
mod clock;
mod definition;
mod dnssec;
mod error;
mod health;
mod link;
mod manners;
pub(crate) mod message;
mod pool;
mod server;
mod settings;
mod state;
mod strategy;
mod stream;
mod tls;
mod trouble;
mod udp;

pub use definition::{Definition, DefinitionError, Transport};
pub use error::Error;
pub use health::Standing;
pub use pool::Pool;
pub use settings::{PoolSettings, SettingsError};
pub use state::UpstreamState;
pub use strategy::Strategy;

/// What is asked of upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Name, type, class.
    pub question: Question,
    /// Whether the client wants DNSSEC records (DO).
    pub do_bit: bool,
    /// Whether the client validates itself, and wants answers that are not (CD).
    pub cd_bit: bool,
}

/// What an upstream answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The message as it came, with the id 0 and the question in small letters. Its AD bit is what the validator found, if
    /// there is one; else the upstream's word if nobody on the way could change it; else 0.
    pub message: Vec<u8>,
    /// Who answered.
    pub upstream: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// Whether DNSSEC proves it (`Some(false)`: the zone is not signed); `None` where nobody looked.
    pub secure: Option<bool>,
    /// Whether nobody on the way could read or change it.
    pub encrypted: bool,
}
