//! What the DNS service tells of the servers that it asks.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, zvariant::Type};

/// A server that is asked for names.
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct DnsUpstream {
    /// As configured, or its address.
    pub name: String,
    /// Who named it: `configured`, `systemd-resolved`, `NetworkManager`, `resolv.conf`.
    pub source: String,
    /// It answers, as far as is known.
    pub up: bool,
    /// What it is asked for; empty: all other names.
    pub zones: Vec<String>,
    /// Since the service was started, or the server was named.
    pub queries: u64,
    /// Of these, what came to nothing.
    pub failures: u64,
    /// Smoothed, in microseconds; 0 where it has not answered yet.
    pub round_trip: u64,
    /// For what comes later.
    pub extra: HashMap<String, OwnedVariant>,
}
