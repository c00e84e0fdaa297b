//! The routing table: from a name to whom to ask. Pure.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use dns_core::{Name, NameError, Question};

use super::{
    portal::Opening,
    settings::{RouteSettings, SystemServers},
    special,
    system::{Domain, Link, System},
};

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The owner's upstreams.
    Upstreams,
    /// Those of a configured zone, by its place in the configuration.
    Zone(usize),
    /// Servers of the system.
    System(Arc<[SocketAddr]>),
    /// Nobody: there is no such name here.
    NotFound,
    /// Nobody is configured, and nobody may be asked instead.
    Nobody,
}

/// Which rule says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// A zone of the configuration holds the name.
    Zone,
    /// The system routes the name's domain to a link.
    SystemDomain,
    /// The name belongs to the network one is in.
    Local,
    /// A captive portal is suspected, and the name is one of its checks.
    PortalCheck,
    /// The owner opened everything for a time.
    Opened,
    /// No other rule is for it.
    Configured,
    /// No other rule is for it, and no upstreams are configured.
    SystemDefault,
}

impl Why {
    /// Whether the answer holds only for the moment: behind a captive portal names lead to the portal, and whoever keeps
    /// such an answer goes on seeing the portal when it is gone.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::PortalCheck | Self::Opened)
    }

    /// For `portmaster dns explain`, logs and events.
    pub fn text(self) -> &'static str {
        match self {
            Self::Zone => "its zone is configured",
            Self::SystemDomain => "the system routes its domain",
            Self::Local => "it is a name of the local network",
            Self::PortalCheck => "it is the check of a suspected captive portal",
            Self::Opened => "the owner opened the network's own servers",
            Self::Configured => "no route but the configured upstreams is for it",
            Self::SystemDefault => "no upstreams are configured, and no route is for it",
        }
    }
}

/// A way, and the rule that it was chosen by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whom to ask.
    pub way: Way,
    /// Why.
    pub why: Why,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Table {
    zones: HashMap<Box<[u8]>, (Way, Why)>,
    /// Keys of `zones`, to be read by people; in the order of their text.
    names: Vec<Name>,
    network: Option<Arc<[SocketAddr]>>,
    rest: (Way, Why),
}

impl Table {
    /// From the owner's word and the system's.
    ///
    /// # Errors
    /// When a configured zone is no name.
    pub fn new(settings: &RouteSettings, system: &System) -> Result<Self, ZoneError> {
        let mut zones = HashMap::new();
        let mut names = Vec::new();
        if settings.split_dns {
            for link in &system.links {
                let honoured = link
                    .domains
                    .iter()
                    .filter(|domain| is_honoured(settings, link, domain));
                for domain in honoured {
                    add_servers(&mut zones, &domain.name, &link.servers);
                    names.push(domain.name.clone());
                }
            }
        }
        // The owner's own word is the last.
        for (at, zone) in settings.zones.iter().enumerate() {
            for text in &zone.names {
                let problem = |source| ZoneError {
                    zone: text.clone(),
                    source,
                };
                let name = Name::parse(text).map_err(problem)?;
                zones.insert(name.as_wire().into(), (Way::Zone(at), Why::Zone));
                names.push(name);
            }
        }
        names.sort_by_cached_key(ToString::to_string);
        names.dedup();
        let network = network_servers(system);
        let rest = match &network {
            _ if !settings.upstreams.servers.is_empty() => (Way::Upstreams, Why::Configured),
            Some(servers) if settings.system_servers == SystemServers::IfNone => {
                (Way::System(Arc::clone(servers)), Why::SystemDefault)
            }
            _ => (Way::Nobody, Why::SystemDefault),
        };
        Ok(Self {
            zones,
            names,
            network,
            rest,
        })
    }

    /// Whom to ask.
    pub fn decide(&self, question: &Question, opening: Opening) -> Decision {
        let (way, why) = self.way(&question.name, question.kind, opening);
        Decision { way, why }
    }

    fn way(&self, name: &Name, kind: u16, opening: Opening) -> (Way, Why) {
        if let Some(servers) = &self.network {
            match opening {
                Opening::Everything => return (Way::System(Arc::clone(servers)), Why::Opened),
                Opening::Checks if special::is_portal_check(name) => {
                    return (Way::System(Arc::clone(servers)), Why::PortalCheck);
                }
                _ => {}
            }
        }
        let root = [0_u8];
        let mut suffixes = name.suffixes().chain(std::iter::once(root.as_slice()));
        if let Some(found) = suffixes.find_map(|suffix| self.zones.get(suffix)) {
            return found.clone();
        }
        if special::is_local(name, kind) {
            let way = self
                .network
                .as_ref()
                .map_or(Way::NotFound, |servers| Way::System(Arc::clone(servers)));
            return (way, Why::Local);
        }
        self.rest.clone()
    }

    /// The zones that are asked for by this way, as text.
    pub fn zones_of(&self, way: &Way) -> Vec<String> {
        let leads = |name: &&Name| self.zones.get(name.as_wire()).is_some_and(|(to, _)| to == way);
        self.names.iter().filter(leads).map(ToString::to_string).collect()
    }

    /// Each set of the system's servers that some name leads to.
    pub(super) fn system_servers(&self) -> impl Iterator<Item = Arc<[SocketAddr]>> {
        let ways = self.zones.values().map(|(way, _)| way);
        let of_zones = ways.filter_map(|way| match way {
            Way::System(servers) => Some(Arc::clone(servers)),
            _ => None,
        });
        of_zones.chain(self.network.clone())
    }
}

/// A zone of the configuration that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zone {zone:?} is no domain name; write it as in corp.example")]
pub struct ZoneError {
    zone: String,
    source: NameError,
}

/// What was set for routing, or by a tunnel, holds. A search domain may have been announced by whoever runs the network:
/// it holds only where it takes no public name away.
fn is_honoured(settings: &RouteSettings, link: &Link, domain: &Domain) -> bool {
    if domain.name.is_root() || link.servers.is_empty() {
        return false; // all names: see `network_servers`
    }
    let trusted = domain.route_only || link.tunnel || settings.trust_search_domains;
    trusted || special::is_private_domain(&domain.name)
}

fn add_servers(zones: &mut HashMap<Box<[u8]>, (Way, Why)>, name: &Name, servers: &[SocketAddr]) {
    let entry = zones.entry(name.as_wire().into());
    entry
        .and_modify(|(way, _)| {
            // Several links for one domain: all of their servers, as systemd-resolved has it.
            if let Way::System(known) = way {
                *way = Way::System(union(known, servers));
            }
        })
        .or_insert_with(|| (Way::System(servers.into()), Why::SystemDomain));
}

fn union(known: &[SocketAddr], more: &[SocketAddr]) -> Arc<[SocketAddr]> {
    let new = more.iter().filter(|server| !known.contains(server));
    known.iter().chain(new).copied().collect()
}

/// The servers for names without a domain: of the link that all names are routed to, else of those with a default route.
fn network_servers(system: &System) -> Option<Arc<[SocketAddr]>> {
    let takes_all = |link: &&Link| {
        link.domains
            .iter()
            .any(|domain| domain.route_only && domain.name.is_root())
    };
    let of = |links: Vec<&Link>| {
        let servers = links
            .iter()
            .fold(Arc::from([]), |known: Arc<[SocketAddr]>, link| {
                union(&known, &link.servers)
            });
        (!servers.is_empty()).then_some(servers)
    };
    of(system.links.iter().filter(takes_all).collect())
        .or_else(|| of(system.links.iter().filter(|link| link.default_route).collect()))
}

#[cfg(test)]
mod tests;
