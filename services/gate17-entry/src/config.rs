//! `gate17-entry.toml`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use daemon::Unfit;
use gate17_proto::padding::Grid;
use serde::Deserialize;

use crate::map_keeper::check_url;

/// Every key has a default: without a network, nothing is carried, and what is meant for the tunnel is refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the rules send tunnelled connections, unless systemd passes the sockets. Loopback alone.
    pub listen: Vec<SocketAddr>,
    /// The network's name and root keys, as its operator gives them (`docs/gate17.md`); relative to the configuration folder.
    pub trust: PathBuf,
    /// Files that the map is put into; relative to the configuration folder. They are looked at every two seconds.
    pub map: Vec<PathBuf>,
    /// Web servers that have it: `https://…`. They are asked before the map is over, those that come first before the others.
    pub map_url: Vec<String>,
    /// PEM file of the authorities whose certificates those servers have; without, the system's.
    pub map_authorities: Option<PathBuf>,
    /// Whether nodes of the map are asked for a newer one.
    pub map_from_nodes: bool,
    /// File with this host's access token, where the network wants one.
    pub token: Option<PathBuf>,
    /// File with this host's Ed25519 key (PKCS #8), where the network admits clients by key.
    pub client_key: Option<PathBuf>,
    /// Connections carried at once.
    pub connections: usize,
    /// Octets of which all that is said to nodes and by them is a multiple: 128 to 16384, a power of two. 0: no padding.
    pub padding: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                (Ipv4Addr::new(127, 0, 0, 17), PORT).into(),
                (Ipv6Addr::LOCALHOST, PORT).into(),
            ],
            trust: PathBuf::from("gate17-trust.json"),
            map: vec![PathBuf::from("gate17-map.json")],
            map_url: Vec::new(),
            map_authorities: None,
            map_from_nodes: true,
            token: None,
            client_key: None,
            connections: 16_384,
            padding: 0,
        }
    }
}

const PORT: u16 = 717;

impl daemon::Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        Unfit::unless_loopback(&self.listen, "entry")?;
        for url in &self.map_url {
            check_url(url).map_err(|why| Unfit::new(&["map_url"], why))?;
        }
        if self.padding != 0 && Grid::new(self.padding).is_none() {
            return Err(Unfit::new(
                &["padding"],
                format!(
                    "{} octets; give a power of two, 128 to 16384, or 0 for none",
                    self.padding
                ),
            ));
        }
        if !(1..=60_000).contains(&self.connections) {
            return Err(Unfit::new(
                &["connections"],
                format!("{} connections; give 1 to 60000", self.connections),
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
            ("connections = 0", "connections: "),
            ("padding = 1000", "padding: "),
            ("map_url = ['http://example.org/map']", "map_url: "),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }
}
