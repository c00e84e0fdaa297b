//! The time that health and manners are told: since the first call in this process, never backwards.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Monotonic.
pub(crate) fn now() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}
