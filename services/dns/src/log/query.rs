//! A query that was answered, as it is remembered.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use dns_core::Name;

use crate::{clients::Asker, filter::Judged};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Refused by policy, list, or what the answer held.
    Refused,
    /// The cache.
    Cache,
    /// The cache, past its time.
    Stale,
    /// An upstream.
    Upstream,
    /// A registry or the owner's settings.
    Special,
    /// No upstream answered.
    Failed,
}

impl Origin {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Cache,
        Self::Stale,
        Self::Upstream,
        Self::Special,
        Self::Failed,
    ];

    /// Stable word.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Cache => "cache",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
            Self::Special => "special",
            Self::Failed => "failed",
        }
    }
}

/// What queries have in common that are answered alike: shared by them, so that one more of them costs no more than a reference.
#[derive(Clone, Debug)]
pub struct Matter {
    /// Who asked.
    pub asker: Arc<Asker>,
    /// For what.
    pub name: Arc<Name>,
    /// Why it was answered, or refused.
    pub judged: Judged,
    /// Told.
    pub addresses: Vec<IpAddr>,
}

#[cfg(test)]
impl Matter {
    /// For tests: a name that the default lets pass.
    pub(crate) fn of_nobody(name: &str) -> Self {
        Self {
            asker: Arc::default(),
            name: Arc::new(name.parse().expect("a test's name is one")),
            judged: Judged::by_default(),
            addresses: Vec::new(),
        }
    }
}

/// A query that was answered.
#[derive(Clone, Debug)]
pub struct Query {
    /// When it came.
    pub time: SystemTime,
    /// What it was about.
    pub matter: Arc<Matter>,
    /// Record type.
    pub kind: u16,
    /// Response code.
    pub code: u16,
    /// Where the answer came from.
    pub origin: Origin,
    /// Who answered, where an upstream did.
    pub upstream: Option<Arc<str>>,
    /// From its arrival to its answer.
    pub took: Duration,
    /// It came by TCP.
    pub tcp: bool,
}
