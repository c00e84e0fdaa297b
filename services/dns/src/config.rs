//! `dns.toml`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use daemon::Unfit;
use dns_core::{Name, cache, special, wire};
use serde::Deserialize;

use crate::{lists::Source, route::RouteSettings};

/// Every key has a default: no file is needed to start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where queries come in, unless systemd passes the sockets. Loopback alone: nobody else is answered.
    pub listen: Vec<SocketAddr>,
    /// Threads for what can be answered at once.
    pub workers: usize,
    /// What a refused name is answered with.
    pub blocked_answer: BlockedAnswer,
    /// Zones of the internet whose names may have addresses of this network.
    pub private_zones: Vec<String>,
    /// Programs that ask for others, by path: what they are told may be meant by anybody.
    pub resolvers: Vec<PathBuf>,
    /// Seconds that a name stands for an address at least, however short its own time is: programs keep addresses.
    pub names_hold: u32,
    /// Tell browsers to leave names to this host (`use-application-dns.net`).
    pub browser_canary: bool,
    /// Tell Private Relay that it is not wanted (`mask.icloud.com`).
    pub relay_canary: bool,
    /// What is remembered.
    pub cache: CacheKeys,
    /// Names that are refused where a profile wants it.
    #[serde(rename = "list")]
    pub lists: Vec<Source>,
    /// Who is asked.
    pub resolve: RouteSettings,
}

impl Default for Config {
    fn default() -> Self {
        let own = std::net::Ipv4Addr::new(127, 0, 0, 17);
        Self {
            listen: vec![
                (std::net::Ipv4Addr::LOCALHOST, PORT).into(),
                (std::net::Ipv6Addr::LOCALHOST, PORT).into(),
                (own, PORT).into(),
            ],
            workers: 1,
            blocked_answer: BlockedAnswer::default(),
            private_zones: Vec::new(),
            resolvers: [
                "/usr/lib/systemd/systemd-resolved",
                "/lib/systemd/systemd-resolved",
                "/usr/sbin/nscd",
                "/usr/sbin/unscd",
                "/usr/sbin/dnsmasq",
                "/usr/sbin/unbound",
                "/usr/sbin/named",
            ]
            .map(PathBuf::from)
            .to_vec(),
            names_hold: 3600,
            browser_canary: true,
            relay_canary: true,
            cache: CacheKeys::default(),
            lists: Vec::new(),
            resolve: RouteSettings::default(),
        }
    }
}

const PORT: u16 = 53;

/// See [`Config::blocked_answer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockedAnswer {
    /// There is no such name.
    #[default]
    Nxdomain,
    /// The server does not want to.
    Refused,
    /// 0.0.0.0 and ::.
    Zero,
}

/// See [`Config::cache`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheKeys {
    /// MiB.
    pub size: usize,
    /// Seconds that an answer is kept at least, and at most.
    pub min_ttl: u32,
    /// See [`Self::min_ttl`].
    pub max_ttl: u32,
    /// Seconds that "there is none" is kept at most.
    pub max_negative_ttl: u32,
    /// Seconds after its time that an answer may still be given while no upstream answers; 0: none.
    pub stale: u32,
}

impl Default for CacheKeys {
    fn default() -> Self {
        let (settings, bounds) = (cache::Settings::default(), wire::Bounds::default());
        Self {
            size: settings.bytes >> 20,
            min_ttl: bounds.min,
            max_ttl: bounds.max,
            max_negative_ttl: bounds.negative_max,
            stale: u32::try_from(settings.stale.as_secs()).unwrap_or(u32::MAX),
        }
    }
}

impl daemon::Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        Unfit::unless_loopback(&self.listen, "server")?;
        if self.workers == 0 || self.workers > 64 {
            return Err(Unfit::new(
                &["workers"],
                format!("{} threads; give 1 to 64", self.workers),
            ));
        }
        if self.cache.size == 0 || self.cache.size > 4096 {
            return Err(Unfit::new(
                &["cache.size"],
                format!("{} MiB; give 1 to 4096", self.cache.size),
            ));
        }
        if self.cache.min_ttl > self.cache.max_ttl {
            return Err(Unfit::new(
                &["cache.min_ttl", "cache.max_ttl"],
                format!(
                    "at least {} s and at most {} s leaves nothing",
                    self.cache.min_ttl, self.cache.max_ttl
                ),
            ));
        }
        if let Some((zone, error)) = self
            .private_zones
            .iter()
            .find_map(|zone| Some((zone, Name::parse(zone).err()?)))
        {
            return Err(Unfit::new(
                &["private_zones"],
                format!("{zone:?} is no name: {error}"),
            ));
        }
        if let Some(problem) = self.lists.iter().find_map(|list| list.check().err()) {
            return Err(Unfit::new(&["list"], problem));
        }
        let twice = self
            .lists
            .iter()
            .enumerate()
            .find(|(at, list)| self.lists.iter().take(*at).any(|other| other.name == list.name));
        if let Some((_, list)) = twice {
            return Err(Unfit::new(
                &["list"],
                format!("two lists are called {:?}; give each its own name", list.name),
            ));
        }
        self.resolve
            .upstreams
            .check()
            .map_err(|error| Unfit::new(&["resolve.upstreams"], error.to_string()))
    }
}

impl Config {
    /// For the cache.
    pub fn cache(&self) -> cache::Settings {
        cache::Settings {
            bytes: self.cache.size << 20,
            stale: Duration::from_secs(self.cache.stale.into()),
            ..cache::Settings::default()
        }
    }

    /// For how long answers are believed.
    pub fn bounds(&self) -> wire::Bounds {
        wire::Bounds {
            min: self.cache.min_ttl,
            max: self.cache.max_ttl,
            negative_max: self.cache.max_negative_ttl,
            ..wire::Bounds::default()
        }
    }

    /// For the judge. `host`: this host's name.
    pub fn settings(&self, host: Name) -> Settings {
        Settings {
            blocked_answer: match self.blocked_answer {
                BlockedAnswer::Nxdomain => wire::Manner::NxDomain,
                BlockedAnswer::Refused => wire::Manner::Refused,
                BlockedAnswer::Zero => wire::Manner::Zero,
            },
            private_zones: self
                .private_zones
                .iter()
                .filter_map(|zone| zone.parse().ok())
                .collect(),
            special: special::Settings {
                browser_canary: self.browser_canary,
                relay_canary: self.relay_canary,
                host,
            },
        }
    }
}

/// What the judge has to know of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a refused name is answered with.
    pub blocked_answer: wire::Manner,
    /// Names below these may have addresses of this network.
    pub private_zones: Vec<Name>,
    /// Names that no upstream is asked for.
    pub special: special::Settings,
}

impl Settings {
    /// Whether a name may have addresses of this network.
    pub fn may_be_private(&self, name: &Name) -> bool {
        self.private_zones.iter().any(|zone| name.is_within(zone))
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
            ("listen = ['192.0.2.1:53']", "listen: "),
            ("workers = 0", "workers: "),
            ("cache.size = 0", "cache.size: "),
            ("cache.min_ttl = 10\ncache.max_ttl = 5", "cache.min_ttl: "),
            ("private_zones = ['a..b']", "private_zones: "),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }
}
