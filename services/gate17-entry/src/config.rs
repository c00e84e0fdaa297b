//! `gate17-entry.toml`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use daemon::Unfit;
use serde::Deserialize;

/// Every key has a default: without a network, nothing is carried, and what is meant for the tunnel is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the rules send tunnelled connections, unless systemd passes the sockets. Loopback alone.
    pub listen: Vec<SocketAddr>,
    /// The network's root keys, as `portmaster gate17 network init` wrote them; relative to the configuration folder.
    pub trust: PathBuf,
    /// Where the map comes from: files, and URLs of web servers. The nodes themselves have it too.
    pub map: Vec<String>,
    /// Seconds between two looks for a new map.
    pub map_refresh: u64,
    /// File with this host's access token, where the network wants one.
    pub token: Option<PathBuf>,
    /// File with this host's key (PKCS#8, PEM), where the network wants one.
    pub key: Option<PathBuf>,
    /// Connections carried at once.
    pub connections: usize,
    /// Circuits that are built ahead, with the global settings.
    pub ahead: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                (Ipv4Addr::new(127, 0, 0, 17), PORT).into(),
                (Ipv6Addr::LOCALHOST, PORT).into(),
            ],
            trust: PathBuf::from("gate17-trust.json"),
            map: Vec::new(),
            map_refresh: 3600,
            token: None,
            key: None,
            connections: 16_384,
            ahead: 1,
        }
    }
}

const PORT: u16 = 717;

impl Config {
    /// Between two looks for a new map.
    pub const fn map_refresh(&self) -> Duration {
        Duration::from_secs(self.map_refresh)
    }
}

impl daemon::Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        if let Some(other) = self.listen.iter().find(|address| !address.ip().is_loopback()) {
            return Err(Unfit::new(
                &["listen"],
                format!("{other} can be reached by other hosts, and this entry is for this one alone; give loopback addresses"),
            ));
        }
        if !(10..=604_800).contains(&self.map_refresh) {
            return Err(Unfit::new(
                &["map_refresh"],
                format!("{} s; give 10 s to a week (604800)", self.map_refresh),
            ));
        }
        if !(1..=60_000).contains(&self.connections) {
            return Err(Unfit::new(
                &["connections"],
                format!("{} connections; give 1 to 60000", self.connections),
            ));
        }
        if self.ahead > 64 {
            return Err(Unfit::new(
                &["ahead"],
                format!("{} circuits built ahead; give 0 to 64", self.ahead),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::Settings as _;

    #[test]
    fn the_defaults_fit() {
        Config::default().check().unwrap();
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, key) in [
            ("listen = ['192.0.2.1:717']", "listen: "),
            ("map_refresh = 1", "map_refresh: "),
            ("connections = 0", "connections: "),
            ("ahead = 65", "ahead: "),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }
}
