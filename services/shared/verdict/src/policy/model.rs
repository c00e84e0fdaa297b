//! Profiles, rules and settings as values. Files (TOML) and wire messages become these, [`super`] decides by them.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::SystemTime};

use ipnet::IpNet;

use super::tunnel::Tunnel;
pub use super::{
    pause::{Clocks, Pause, SinceBoot},
    resolvers::Resolver,
};
use crate::{Direction, Protocol, Scope, Source};

/// What a rule or a default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let pass.
    Allow,
    /// Refuse with an error.
    Block,
    /// Refuse silently.
    Drop,
    /// Ask the owner; without an answer, the setting `ask_timeout_action` applies.
    Ask,
    /// Send through Gate17.
    Tunnel,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Allow, Self::Block, Self::Drop, Self::Ask, Self::Tunnel];

    /// Stable text, as in files and logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::Drop => "drop",
            Self::Ask => "ask",
            Self::Tunnel => "tunnel",
        }
    }

    /// By its stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.text() == text)
    }
}

/// One way of naming a remote end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// An address (full length) or a network.
    Network(IpNet),
    /// From the first to the last address, both included, of one family.
    Range(IpAddr, IpAddr),
    /// By where it is.
    Scope(Scope),
    /// Exactly this name; lower case, no closing dot.
    Domain(String),
    /// This name (written `*.name`) and all below it.
    Zone(String),
}

/// A rule: everything that is set must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `file#number`.
    pub source: Source,
    /// What it does.
    pub action: Action,
    /// `None`: both.
    pub direction: Option<Direction>,
    /// Empty: all.
    pub protocols: Vec<Protocol>,
    /// Any of; empty: every remote.
    pub remotes: Vec<Remote>,
    /// Empty: all. A protocol without ports matches only an empty list.
    pub remote_ports: Vec<RangeInclusive<u16>>,
    /// Empty: all.
    pub local_ports: Vec<RangeInclusive<u16>>,
    /// Empty: all.
    pub icmp_types: Vec<u8>,
    /// Empty: all.
    pub uids: Vec<u32>,
    /// From this time on it matches nothing.
    pub expires: Option<SystemTime>,
    /// The owner's own words.
    pub note: String,
}

/// Which processes a profile is for: everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// Executable's verified path.
    pub path: Option<PathBuf>,
    /// Glob over it: `*` and `?` stay within one path component, `**` does not.
    pub path_glob: Option<String>,
    /// Executable's SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// Script's verified path.
    pub script: Option<PathBuf>,
    /// System or user unit.
    pub unit: Option<String>,
    /// Glob over the cgroup's path.
    pub cgroup: Option<String>,
    /// Effective user id.
    pub uid: Option<u32>,
    /// Flatpak application id.
    pub flatpak: Option<String>,
    /// Snap name.
    pub snap: Option<String>,
    /// Container id, or a prefix of it of at least 12 digits.
    pub container: Option<String>,
    /// Flows whose process could not be found.
    pub unknown: bool,
}

/// `None`: inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What happens when no rule matches. As shipped: allow.
    pub default_action: Option<Action>,
    /// What `ask` comes to when nobody answers (never `ask` itself). As shipped: block.
    pub ask_timeout_action: Option<Action>,
    /// Refuse connections from other hosts. As shipped: yes.
    pub block_incoming: Option<bool>,
    /// Refuse the local network and multicast, both ways. As shipped: no.
    pub block_lan: Option<bool>,
    /// Refuse the internet, both ways. As shipped: no.
    pub block_internet: Option<bool>,
    /// Refuse outgoing connections to internet addresses that no name was asked for. As shipped: no.
    pub block_direct: Option<bool>,
    /// Refuse DNS over TLS, HTTPS and QUIC to resolvers of others. As shipped: no.
    pub block_encrypted_dns: Option<bool>,
    /// Categories of the DNS server's lists whose names are refused; `*` stands for all of them, none for no list. As
    /// shipped: all.
    pub block_lists: Option<Vec<String>>,
    /// How what is tunnelled travels; its settings are inherited one by one.
    pub tunnel: Tunnel,
}

/// What one application, or group of them, may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// File name without `.toml`.
    pub id: Source,
    /// For people; the id where the file gives none.
    pub name: String,
    /// Any of.
    pub matchers: Vec<Matcher>,
    /// Its settings.
    pub settings: Settings,
    /// First match wins.
    pub rules: Vec<Rule>,
}

/// What holds for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Inherited by profiles.
    pub settings: Settings,
    /// Tried after a profile's own.
    pub rules: Vec<Rule>,
    /// Send stray DNS queries to the local server.
    pub redirect_dns: bool,
    /// Resolvers that `block_encrypted_dns` is about, beside those that are shipped.
    pub encrypted_dns_resolvers: Vec<Resolver>,
    /// How incoming connections are refused by switch or default `block`: [`Action::Drop`] or [`Action::Block`].
    pub incoming_refusal: Action,
    /// How long a prompt waits for its answer.
    pub ask_timeout_seconds: u32,
}

/// All of it, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with every change, also over restarts of the policy service.
    pub version: u64,
    /// What holds for all.
    pub global: Global,
    /// Sorted by id.
    pub profiles: Vec<Profile>,
    /// The owner paused the firewall.
    pub pause: Option<Pause>,
}
