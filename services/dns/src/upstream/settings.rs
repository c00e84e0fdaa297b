//! What an owner says about a set of upstreams.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{
    definition::{Definition, DefinitionError, Transport},
    strategy::Strategy,
};

/// A set of upstreams, and how they are used. As a table in `dns.toml`; unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", default)]
pub struct PoolSettings {
    /// The servers, in the owner's order.
    pub servers: Vec<Definition>,
    /// How one is chosen.
    pub strategy: Strategy,
    /// How many are asked at once with [`Strategy::Race`].
    pub race: usize,
    /// A query that nobody answered for so long has failed, in milliseconds.
    pub deadline_ms: u64,
    /// So many queries wait for one server at most.
    pub outstanding: usize,
    /// Plain servers, by address, that are asked for the addresses of servers given by name, and for nothing else.
    pub bootstrap: Vec<Definition>,
    /// Whether servers in the clear may be asked when all encrypted ones fail.
    pub plaintext_fallback: bool,
    /// Whether answers are validated here.
    pub dnssec: bool,
    /// A file of DNSKEY records to trust instead of the root's, in the form of zone files.
    pub trust_anchors: Option<PathBuf>,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            strategy: Strategy::default(),
            race: 2,
            deadline_ms: 5000,
            outstanding: 1024,
            bootstrap: Vec::new(),
            plaintext_fallback: false,
            dnssec: false,
            trust_anchors: None,
        }
    }
}

/// Settings that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A number out of its range.
    #[error("{key} is {value}; write a number from {least} to {most}")]
    Range {
        /// Which.
        key: &'static str,
        /// What it says.
        value: u64,
        /// The least that is good.
        least: u64,
        /// The most that is good.
        most: u64,
    },
    /// A server given by name, and nobody to ask for its address.
    #[error("upstream {0:?} is given by name: add `addresses` to it, or name `bootstrap` servers")]
    NoBootstrap(String),
    /// A bootstrap server that has to be looked up itself.
    #[error(
        "bootstrap server {0:?} is given by name; write its address, as in udp://9.9.9.9 or tls://9.9.9.9#dns.quad9.net"
    )]
    BootstrapByName(String),
    /// Servers in the clear among encrypted ones, without a word that this is meant.
    #[error(
        "upstream {0:?} is in the clear among encrypted ones: leave it out, or set `plaintext_fallback = true` to have it asked in the clear whenever all encrypted ones fail"
    )]
    InTheClear(String),
    /// This server itself, or systemd-resolved's stub, whose own questions come back to us.
    #[error(
        "upstream {0:?} would ask this server in turn, round in circles; name the server that is behind it"
    )]
    Ourselves(String),
    /// The same server twice.
    #[error("upstream {0:?} stands there twice; leave one out")]
    Twice(String),
    /// A definition.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

impl PoolSettings {
    /// Servers of the network itself, in the clear, as the system names them.
    pub fn plain(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut known: Vec<Definition> = Vec::new();
        for server in servers.into_iter().map(Definition::plain) {
            if !known.contains(&server) {
                known.push(server);
            }
        }
        Self {
            servers: known,
            ..Self::default()
        }
    }

    /// How long a query may take.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// What no single value shows.
    ///
    /// # Errors
    /// Names the key or the server, and the remedy.
    pub fn check(&self) -> Result<(), SettingsError> {
        range("race", self.race, 1, 8)?;
        range("outstanding", self.outstanding, 1, 4096)?;
        range(
            "deadline_ms",
            usize::try_from(self.deadline_ms).unwrap_or(usize::MAX),
            100,
            60_000,
        )?;
        if let Some(server) = self.bootstrap.iter().find(|server| server.needs_bootstrap()) {
            return Err(SettingsError::BootstrapByName(server.to_string()));
        }
        let unreachable = self
            .servers
            .iter()
            .find(|server| server.needs_bootstrap() && self.bootstrap.is_empty());
        if let Some(server) = unreachable {
            return Err(SettingsError::NoBootstrap(server.to_string()));
        }
        let is_encrypted = |server: &&Definition| server.transport.is_encrypted();
        let clear = self
            .servers
            .iter()
            .find(|server| !server.transport.is_encrypted());
        if let Some(server) =
            clear.filter(|_| !self.plaintext_fallback && self.servers.iter().any(|one| is_encrypted(&one)))
        {
            return Err(SettingsError::InTheClear(server.to_string()));
        }
        let is_ours = |server: &&Definition| {
            !server.transport.is_encrypted() && server.addresses.iter().any(crate::route::is_ours)
        };
        if let Some(server) = self.servers.iter().chain(&self.bootstrap).find(is_ours) {
            return Err(SettingsError::Ourselves(server.to_string()));
        }
        for (at, server) in self.servers.iter().enumerate() {
            if self
                .servers
                .iter()
                .skip(at + 1)
                .any(|other| other.label == server.label)
            {
                return Err(SettingsError::Twice(server.to_string()));
            }
        }
        Ok(())
    }

    /// Whether any server is asked over what is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.servers.iter().any(|server| server.transport.is_encrypted())
    }

    /// Whether any server needs UDP's or TCP's oldest way.
    pub fn has_clear(&self) -> bool {
        self.servers
            .iter()
            .any(|server| matches!(server.transport, Transport::Udp | Transport::Tcp))
    }
}

fn range(key: &'static str, value: usize, least: u64, most: u64) -> Result<(), SettingsError> {
    let value = u64::try_from(value).unwrap_or(u64::MAX);
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SettingsError::Range {
        key,
        value,
        least,
        most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match toml::from_str::<PoolSettings>(text) {
            Ok(settings) => settings
                .check()
                .map_or_else(|error| error.to_string(), |()| "fine".to_owned()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_said_is_checked_as_a_whole() {
        for (text, answer) in [
            ("", "fine"),
            (r#"servers = ["udp://9.9.9.9", "tcp://9.9.9.9"]"#, "fine"),
            (
                r#"servers = ["tls://9.9.9.9", "udp://9.9.9.9"]"#,
                "`plaintext_fallback = true`",
            ),
            (
                "servers = [\"tls://9.9.9.9\", \"udp://9.9.9.9\"]\nplaintext_fallback = true",
                "fine",
            ),
            (r#"servers = ["https://dns.quad9.net"]"#, "add `addresses`"),
            (
                "servers = [\"https://dns.quad9.net\"]\nbootstrap = [\"udp://9.9.9.9\"]",
                "fine",
            ),
            (r#"bootstrap = ["tls://dns.quad9.net"]"#, "write its address"),
            (r#"servers = ["tls://9.9.9.9", "tls://9.9.9.9"]"#, "twice"),
            (r#"servers = ["udp://127.0.0.1"]"#, "round in circles"),
            (r#"servers = ["tcp://127.0.0.53"]"#, "round in circles"),
            (r#"servers = ["udp://127.0.0.1:5353"]"#, "fine"),
            ("race = 0", "race is 0"),
            ("deadline_ms = 1", "from 100 to 60000"),
            ("retries = 1", "unknown field `retries`"),
            ("strategy = \"random\"", "unknown variant `random`"),
        ] {
            assert!(told(text).contains(answer), "{text}: {}", told(text));
        }
    }

    #[test]
    fn the_systems_servers_are_asked_in_the_clear() {
        let both = ["192.0.2.1:53", "[fe80::1%2]:53", "192.0.2.1:53", "[fe80::1%3]:53"];
        let settings = PoolSettings::plain(both.map(|text| text.parse().unwrap()));
        let labels: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            labels,
            ["udp://192.0.2.1", "udp://[fe80::1%2]", "udp://[fe80::1%3]"]
        );
        assert!(settings.check().is_ok() && settings.has_clear() && !settings.is_encrypted());
    }
}
