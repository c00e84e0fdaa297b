//! What an owner says about who is asked for which name.

use serde::Deserialize;

use crate::upstream::PoolSettings;

/// When the name servers of the system (of the network, as a rule) are asked for names that nobody else is responsible for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemServers {
    /// Where the owner configured no upstreams.
    #[default]
    IfNone,
    /// Never; without upstreams nothing is resolved but what routes and zones name.
    Never,
}

/// The routes. As tables in `dns.toml`; unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", default)]
pub struct RouteSettings {
    /// The owner's upstreams, for all names that no other rule is for.
    pub upstreams: PoolSettings,
    /// Zones with upstreams of their own: a company's, a lab's.
    pub zones: Vec<ZoneSettings>,
    /// Whether the system's servers are asked when there are no upstreams.
    pub system_servers: SystemServers,
    /// Whether domains that the system routes to a link (a VPN's, a network's own) are asked there.
    pub split_dns: bool,
    /// Whether search domains that a network announces are asked there even if they are public names.
    pub trust_search_domains: bool,
    /// Whether the names of portal checks are asked at the network's own servers while a captive portal is suspected.
    pub captive_portal: bool,
}

impl Default for RouteSettings {
    fn default() -> Self {
        Self {
            upstreams: PoolSettings::default(),
            zones: Vec::new(),
            system_servers: SystemServers::default(),
            split_dns: true,
            trust_search_domains: false,
            captive_portal: true,
        }
    }
}

/// A zone, or several, with upstreams of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub struct ZoneSettings {
    /// Their names, as in `corp.example` or `10.in-addr.arpa`; what is below them belongs to them.
    pub names: Vec<String>,
    /// Who is asked for them.
    pub upstreams: PoolSettings,
}
