//! `policy.toml`.

use std::time::Duration;

use serde::Deserialize;

/// Every key has a default: no file is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// After a change, wait this long for more of them: editors and package managers write in several steps.
    settle_milliseconds: u64,
    /// Look at the files this often even if nothing was heard of them: links point elsewhere, networks carry folders.
    rescan_seconds: u64,
}

impl daemon::Settings for Config {}

impl Default for Config {
    fn default() -> Self {
        Self {
            settle_milliseconds: 50,
            rescan_seconds: 30,
        }
    }
}

impl Config {
    /// How long to wait for more changes.
    pub(crate) const fn settle(self) -> Duration {
        Duration::from_millis(self.settle_milliseconds)
    }

    /// How often to look unasked; at least a second apart.
    pub(crate) fn rescan(self) -> Duration {
        Duration::from_secs(self.rescan_seconds.max(1))
    }
}
