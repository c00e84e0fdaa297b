//! What is told of upstreams.

use std::{sync::Arc, time::Duration};

use super::{definition::Transport, health::Standing};

/// One upstream, as `portmaster dns upstreams` shows it.
#[derive(Debug, Clone)]
pub struct UpstreamState {
    /// What it is called.
    pub label: Arc<str>,
    /// How it is spoken to.
    pub transport: Transport,
    /// Whether it answers.
    pub standing: Standing,
    /// Its smoothed round trip time, once it has answered.
    pub rtt: Option<Duration>,
    /// Queries that it was asked.
    pub asked: u64,
    /// Queries that it answered, well or ill.
    pub answered: u64,
    /// Queries that came to nothing.
    pub failed: u64,
    /// Datagrams from its address that fitted no query.
    pub ignored: u64,
    /// Connections that were begun.
    pub connections: u64,
}
