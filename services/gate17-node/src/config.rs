//! `gate17-node.toml`.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use daemon::{Paths, Unfit};
use gate17_maps::check_url;
use gate17_proto::{exit::ExitPolicy, map::ExitRule};
use serde::Deserialize;

use crate::upstream::Upstream;

/// Every key has a default: without a file and a map, this is a web server that carries for nobody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where callers come in, unless systemd passes the sockets.
    pub listen: Vec<SocketAddr>,
    /// Where quotes are given by UDP, unless systemd passes the sockets. Nowhere, by default.
    pub listen_udp: Vec<SocketAddr>,
    /// PEM files of a key and its certificates; without, both are made at the first start.
    pub key: Option<PathBuf>,
    /// See [`Self::key`].
    pub certificate: Option<PathBuf>,
    /// Folder of the ordinary web pages; without, one short page.
    pub page: Option<PathBuf>,
    /// An own web server in its place, as `http://127.0.0.1:8080`: visitors get its answers.
    pub upstream: Option<String>,
    /// Quotes of the day, separated by lines of `%` or by empty ones; without, those that are shipped.
    pub quotes: Option<PathBuf>,
    /// Who may have anything carried.
    pub access: Access,
    /// The network's name and root keys, as its operator gives them; relative to the configuration folder.
    pub trust: PathBuf,
    /// Files that the map is put into; relative to the configuration folder. They are looked at every two seconds.
    pub map: Vec<PathBuf>,
    /// Web servers that have it: `https://…`, asked before the map is over, in their order.
    pub map_url: Vec<String>,
    /// PEM file of the authorities whose certificates those servers have; without, the system's.
    pub map_authorities: Option<PathBuf>,
    /// Where to: the first rule that matches decides, and what none matches is refused. Empty: this is no exit.
    pub exit: Vec<ExitRule>,
    /// Who is asked for names on `/dns-query`; without, the first server of `/etc/resolv.conf`.
    pub resolver: Option<SocketAddr>,
    /// 0: one for each processor.
    pub threads: usize,
    /// How much of everything.
    pub limits: Bounds,
}

/// See [`Config::access`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nobody.
    Nobody,
    /// Whom the network's map admits; nobody, while there is none that holds.
    #[default]
    Map,
    /// Everybody.
    None,
    /// Who shows a token of which this is the SHA-256, in hexadecimal digits.
    Token(Vec<String>),
}

/// Limits; what is over them is refused, and nothing else suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one client network (/24, /48).
    pub connections_per_network: usize,
    /// Callers in all who have not shown yet what they want.
    pub handshakes: usize,
    /// Of one client network.
    pub handshakes_per_network: usize,
    /// Streams in all.
    pub streams: usize,
    /// Streams of one client network.
    pub streams_per_network: usize,
    /// Streams that one client network may open in a second, in the long run; four times as many at once.
    pub opens_per_second: u32,
    /// Streams of one connection.
    pub streams_per_connection: u32,
    /// KiB on their way to clients of one network, and in all.
    pub buffered_per_network: usize,
    /// See [`Self::buffered_per_network`].
    pub buffered: usize,
    /// MiB of one measurement of a client's path, each way; 0: nobody measures here.
    pub measure: u32,
    /// Seconds that a destination has to answer.
    pub connect: u64,
    /// Seconds that a caller has to show what he wants.
    pub handshake: u64,
    /// Seconds that streams have to end when the node stops being there for them.
    pub drain: u64,
}

impl Config {
    /// Whom to believe, and where maps are put.
    pub fn map_files(&self, paths: &Paths) -> (PathBuf, Vec<PathBuf>) {
        let maps = self.map.iter().map(|file| paths.config.join(file));
        (paths.config.join(&self.trust), maps.collect())
    }
}

impl Bounds {
    /// All that a restart is needed for.
    pub(crate) const fn but_for_drain(self) -> Self {
        Self { drain: 0, ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        let both = |port| -> [SocketAddr; 2] {
            [
                (Ipv4Addr::UNSPECIFIED, port).into(),
                (Ipv6Addr::UNSPECIFIED, port).into(),
            ]
        };
        Self {
            listen: [17, 80, 443].into_iter().flat_map(both).collect(),
            listen_udp: Vec::new(),
            key: None,
            certificate: None,
            page: None,
            upstream: None,
            quotes: None,
            access: Access::default(),
            trust: PathBuf::from("gate17-trust.json"),
            map: vec![PathBuf::from("gate17-map.json")],
            map_url: Vec::new(),
            map_authorities: None,
            exit: Vec::new(),
            resolver: None,
            threads: 0,
            limits: Bounds::default(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_network: 256,
            handshakes: 1024,
            handshakes_per_network: 64,
            streams: 32_768,
            streams_per_network: 4096,
            opens_per_second: 2000,
            streams_per_connection: 256,
            buffered_per_network: 32 << 10,
            buffered: 256 << 10,
            measure: 256,
            connect: 10,
            handshake: 10,
            drain: 30,
        }
    }
}

impl daemon::Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        if self.key.is_some() != self.certificate.is_some() {
            return Err(Unfit::new(
                &["key", "certificate"],
                "one without the other; give both files, or neither",
            ));
        }
        if self.page.is_some() && self.upstream.is_some() {
            return Err(Unfit::new(
                &["page", "upstream"],
                "two web sites; give a folder or a web server, not both",
            ));
        }
        if let Some(Err(error)) = self.upstream.as_deref().map(str::parse::<Upstream>) {
            return Err(Unfit::new(&["upstream"], error.to_string()));
        }
        if self.listen.is_empty() {
            return Err(Unfit::new(&["listen"], "nowhere; give addresses with ports"));
        }
        if let Access::Token(tokens) = &self.access
            && let Some(wrong) = tokens.iter().find(|token| crate::access::digest(token).is_none())
        {
            return Err(Unfit::new(
                &["access"],
                format!("{wrong:?} is no SHA-256; give its 64 hexadecimal digits"),
            ));
        }
        for url in &self.map_url {
            check_url(url).map_err(|why| Unfit::new(&["map_url"], why))?;
        }
        if let Err(error) = ExitPolicy::new(&self.exit, Vec::new()) {
            return Err(Unfit::new(&["exit"], error.to_string()));
        }
        let bounds = &self.limits;
        if bounds.connections == 0
            || bounds.streams == 0
            || bounds.opens_per_second == 0
            || bounds.streams_per_connection == 0
        {
            return Err(Unfit::new(
                &["limits"],
                "0 connections or streams; give at least 1 of each",
            ));
        }
        if bounds.buffered_per_network < 256 || bounds.buffered < bounds.buffered_per_network {
            return Err(Unfit::new(
                &["limits.buffered_per_network", "limits.buffered"],
                "too little for one stream; give at least 256 KiB to a network, and no less in all",
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
            ("key = 'a.pem'", "key: "),
            ("listen = []", "listen: "),
            ("upstream = '127.0.0.1'", "upstream: "),
            ("page = '/a'\nupstream = 'http://x'", "page: "),
            ("access = { token = ['00'] }", "access: "),
            (
                "exit = [{ allow = true, to = '10.0.0.0/33', ports = '*' }]",
                "exit: ",
            ),
            ("map_url = ['http://example.org/map']", "map_url: "),
            ("limits.streams = 0", "limits: "),
            ("limits.buffered_per_network = 1", "limits.buffered_per_network: "),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            let said = config.check().unwrap_err().to_string();
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }
}
