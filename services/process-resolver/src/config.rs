//! `process-resolver.toml`.

use serde::Deserialize;

use crate::ladder::SocketLookup;

/// Every key has a default.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where sockets are looked up: `auto`, `sock_diag`, `proc`.
    pub socket_lookup: SocketLookup,
    /// Processes that are remembered; a descriptor is held for each.
    pub processes: u32,
    /// Sockets whose holder is remembered.
    pub sockets: u32,
    /// Searches of all processes at once.
    pub searches: u32,
}

impl daemon::Settings for Config {}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket_lookup: SocketLookup::Auto,
            processes: 4096,
            sockets: 65_536,
            searches: 2,
        }
    }
}
