//! What `Explain` answers.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, zvariant::Type};

/// What would happen to a connection. Numbers are those of the gRPC contracts, as in [`ConnectionEvent`](crate::ConnectionEvent).
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct Explanation {
    /// 1 allow, 2 block, 3 drop, 4 tunnel, 5 redirect-dns.
    pub verdict: u32,
    /// As a number.
    pub why: u32,
    /// As a stable word.
    pub why_text: String,
    /// `file#rule` or `file#setting`.
    pub rule: String,
    /// Id; empty for the global defaults.
    pub profile: String,
    /// Decided once for the whole connection.
    pub permanent: bool,
    /// Of the policy that this was judged by.
    pub policy_version: u64,
    /// What was tried before, in order: `source: why it did not match`.
    pub steps: Vec<String>,
    /// `assumed_address` (`ay`) where the question had none; more may come.
    pub extra: HashMap<String, OwnedVariant>,
}
