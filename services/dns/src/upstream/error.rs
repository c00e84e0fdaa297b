//! Why a question got no answer.

use std::sync::Arc;

/// Why an exchange with upstreams failed. A caller matches on it: what may be answered from a stale cache, what is final.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nobody answered before the deadline.
    #[error("no upstream answered in time (last asked: {upstream})")]
    Timeout {
        /// The one asked last.
        upstream: Arc<str>,
    },
    /// The upstream answered that it cannot or will not (SERVFAIL, REFUSED, NOTIMP, …); what it said goes with it, with its
    /// extended errors (RFC 8914).
    #[error("{upstream} answers with code {code}")]
    Refused {
        /// Who said so.
        upstream: Arc<str>,
        /// The response code, with its upper bits from EDNS.
        code: u16,
        /// The answer, as it came; its id is 0.
        message: Arc<[u8]>,
    },
    /// The TLS handshake failed: a wrong name, an unknown authority, an expired certificate.
    #[error("{upstream} does not prove who it is: {problem}")]
    Tls {
        /// Who was asked.
        upstream: Arc<str>,
        /// What the TLS library says.
        problem: Arc<str>,
    },
    /// No way there: no route, nothing listens, the connection broke, or its address is not known.
    #[error("{upstream} cannot be reached: {problem}")]
    Unreachable {
        /// Who was asked.
        upstream: Arc<str>,
        /// What went wrong.
        problem: Arc<str>,
    },
    /// The upstream answers with what is no answer to the question.
    #[error("{upstream} answers with nonsense: {problem}")]
    Nonsense {
        /// Who was asked.
        upstream: Arc<str>,
        /// What is wrong with it.
        problem: Arc<str>,
    },
    /// As many queries are under way as may be.
    #[error("too many queries wait for {upstream}")]
    Busy {
        /// Who is busy.
        upstream: Arc<str>,
    },
    /// Every upstream is known not to answer; it is tried again soon.
    #[error("no upstream is reachable at present")]
    AllDown,
    /// The pool has no upstream at all.
    #[error("no upstream is configured")]
    NoUpstream,
    /// DNSSEC says that the answer is forged or broken.
    #[error("DNSSEC: {reason}")]
    Bogus {
        /// The code of the extended error that a client is told (RFC 8914 §4: 6 to 12).
        ede: u16,
        /// In words.
        reason: Arc<str>,
    },
    /// The route of the name says that there is no such name (special names, with nobody to ask).
    #[error("no server is responsible for this name here: {why}")]
    NotFound {
        /// Which rule says so.
        why: &'static str,
    },
}

impl Error {
    /// Whether it says something about the upstream's health, and not only about one name.
    pub(crate) fn is_ill_health(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Tls { .. } | Self::Unreachable { .. } | Self::Nonsense { .. }
        )
    }

    /// Whether another upstream would be asked in vain or against the meaning of the answer: one that validates found the
    /// name bogus (RFC 8914 codes 6 to 12), and asking one that does not validate would undo that.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Refused { message, .. } => {
                super::message::extended_error(message).is_some_and(|(code, _)| (6..=12).contains(&code))
            }
            Self::Bogus { .. } | Self::NotFound { .. } => true,
            _ => false,
        }
    }

    /// The extended error (RFC 8914 §4) that tells a client best what happened, and the upstream's own words if it has any.
    pub fn extended(&self) -> (u16, Option<String>) {
        const NOT_READY: u16 = 14;
        const NO_REACHABLE_AUTHORITY: u16 = 22;
        const NETWORK_ERROR: u16 = 23;
        match self {
            Self::Refused { message, .. } => match super::message::extended_error(message) {
                Some((code, text)) => (code, Some(text).filter(|text| !text.is_empty())),
                None => (NO_REACHABLE_AUTHORITY, None),
            },
            Self::Bogus { ede, reason } => (*ede, Some(reason.to_string())),
            Self::Timeout { .. } | Self::AllDown => (NO_REACHABLE_AUTHORITY, None),
            Self::Tls { .. } | Self::Unreachable { .. } | Self::Nonsense { .. } => (NETWORK_ERROR, None),
            Self::Busy { .. } | Self::NoUpstream | Self::NotFound { .. } => (NOT_READY, None),
        }
    }

    /// A word for logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Refused { .. } => "refused",
            Self::Tls { .. } => "tls",
            Self::Unreachable { .. } => "unreachable",
            Self::Nonsense { .. } => "nonsense",
            Self::Busy { .. } => "busy",
            Self::AllDown => "all-down",
            Self::NoUpstream => "no-upstream",
            Self::Bogus { .. } => "bogus",
            Self::NotFound { .. } => "not-found",
        }
    }
}
