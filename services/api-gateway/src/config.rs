//! `api-gateway.toml`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use daemon::Unfit;
use serde::Deserialize;

/// Every key has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where calls come in, unless systemd passes the sockets. Loopback alone.
    pub listen: Vec<SocketAddr>,
    /// Origins of web pages, beside our own, whose scripts may call: `http://localhost:5173`. None by default.
    pub origins: Vec<String>,
    /// Connections at once, of everybody.
    pub connections: usize,
    /// Connections at once of one user.
    pub connections_per_user: usize,
    /// Calls a second of one user; streams count once.
    pub calls_per_second: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![
                (Ipv4Addr::LOCALHOST, PORT).into(),
                (Ipv6Addr::LOCALHOST, PORT).into(),
            ],
            origins: Vec::new(),
            connections: 2048,
            connections_per_user: 512,
            calls_per_second: 500,
        }
    }
}

/// Below 1024, so that no unprivileged program can pose as us.
pub const PORT: u16 = 817;

impl Config {
    /// What may stand in `Host:`: our addresses, and `localhost`. A name that somebody's DNS server points at this host is no
    /// name of ours (DNS rebinding).
    pub fn hosts(&self, listening: &[SocketAddr]) -> Vec<String> {
        let mut hosts = Vec::new();
        for address in listening {
            let port = address.port();
            match address.ip() {
                IpAddr::V4(ip) => hosts.push(format!("{ip}:{port}")),
                IpAddr::V6(ip) => hosts.push(format!("[{ip}]:{port}")),
            }
            hosts.push(format!("localhost:{port}"));
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

impl daemon::Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        Unfit::unless_loopback(&self.listen, "gateway")?;
        let within = |keys, value: usize, most: usize| match value {
            value if (1..=most).contains(&value) => Ok(()),
            value => Err(Unfit::new(keys, format!("{value}; give 1 to {most}"))),
        };
        within(&["connections"], self.connections, 65_536)?;
        within(&["connections_per_user"], self.connections_per_user, 65_536)?;
        let calls = usize::try_from(self.calls_per_second).unwrap_or(usize::MAX);
        within(&["calls_per_second"], calls, 1_000_000)?;
        for origin in &self.origins {
            let rest = origin.split_once("://").map(|(_, rest)| rest);
            if rest.is_none_or(|rest| rest.is_empty() || rest.contains('/') || rest.contains('*')) {
                let text = format!(
                    "{origin:?} is no origin: give `http://localhost:5173` or the like, without a path"
                );
                return Err(Unfit::new(&["origins"], text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::Settings as _;

    #[test]
    fn the_defaults_fit_and_name_their_hosts() {
        let config = Config::default();
        config.check().unwrap();
        let hosts = config.hosts(&config.listen);
        assert_eq!(hosts, ["127.0.0.1:817", "[::1]:817", "localhost:817"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, key) in [
            ("listen = ['192.0.2.1:817']", "listen: "),
            ("connections = 0", "connections: "),
            ("origins = ['*']", "origins: "),
            ("origins = ['http://*.example']", "origins: "),
            ("origins = ['http://localhost:1/x']", "origins: "),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }
}
