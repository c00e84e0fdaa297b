//! Who is asked for which name: the owner's upstreams, those of a company's zone, those of the network or a VPN, or nobody.
//!
//! Invariants: where the owner configured encrypted upstreams, a name goes to a server of the network only by a rule that
//! [`Why`] names; what a network itself announces (a search domain from DHCP) never takes a public name away from them.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context;
use dns_core::{Name, Question};
use tokio::{
    sync::Notify,
    time::{Instant, interval},
};

use crate::upstream::{Answer, Error, Pool, PoolSettings, Query, UpstreamState};

mod network_manager;
mod portal;
mod resolv_conf;
mod resolved;
mod settings;
mod sources;
mod special;
mod system;
mod table;
mod ways;

pub use portal::{Connectivity, Opening, Portal};
pub use settings::{RouteSettings, SystemServers, ZoneSettings};
pub use sources::{Files, Sources};
pub use system::{Domain, Link, Source, System, is_ours};
pub use table::{Decision, Table, Way, Why};
pub(crate) use ways::{Comparison, Reach};

/// What a server answers that does not want to (RFC 1035 §4.1.1).
const REFUSED: u16 = 5;
/// How often it is looked whether a captive portal is to be suspected.
const LOOK: Duration = Duration::from_secs(2);

/// An answer, and by which rule it was asked for where it was.
#[derive(Debug, Clone)]
pub struct Routed {
    /// What the upstream said.
    pub answer: Answer,
    /// Why it was asked.
    pub why: Why,
}

/// All upstreams, and the way to each. Made inside a tokio runtime; cheap to clone.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RouteSettings,
    main: Pool,
    zones: Vec<Pool>,
    current: RwLock<Arc<Current>>,
    portal: Mutex<Portal>,
    /// The system names others.
    servers_changed: Notify,
    started: Instant,
}

/// Upstreams that are asked for the same names.
#[derive(Debug)]
pub struct Set {
    /// Who named them: `configured`, `systemd-resolved`, `NetworkManager`, `resolv.conf`.
    pub source: &'static str,
    /// What they are asked for; empty: all other names.
    pub zones: Vec<String>,
    /// Each of them.
    pub upstreams: Vec<UpstreamState>,
}

/// What the network's state makes of it.
struct Current {
    table: Table,
    system: System,
    pools: HashMap<Arc<[SocketAddr]>, Pool>,
}

impl Router {
    /// With nothing known of the system yet.
    ///
    /// # Errors
    /// Names the set of upstreams that cannot be used, and the remedy.
    pub fn new(settings: &RouteSettings) -> anyhow::Result<Self> {
        let main = Pool::new(&settings.upstreams).context("use the configured upstreams")?;
        let mut zones = Vec::with_capacity(settings.zones.len());
        for zone in &settings.zones {
            let what = || format!("use the upstreams of zone {}", zone.names.join(", "));
            zones.push(Pool::new(&zone.upstreams).with_context(what)?);
        }
        let table = Table::new(settings, &System::default()).context("read the zones")?;
        let current = Current {
            table,
            system: System::default(),
            pools: HashMap::new(),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                settings: settings.clone(),
                main,
                zones,
                current: RwLock::new(Arc::new(current)),
                portal: Mutex::new(Portal::new(settings.captive_portal)),
                servers_changed: Notify::new(),
                started: Instant::now(),
            }),
        })
    }

    /// Who would be asked, and why; asks nobody.
    pub fn decide(&self, question: &Question) -> Decision {
        let opening = self.opening().0;
        self.current().table.decide(question, opening)
    }

    /// Whether asking for this is a matter of a datagram there and one back.
    pub fn is_plain(&self, question: &Question) -> bool {
        let current = self.current();
        let way = current.table.decide(question, self.opening().0).way;
        self.pool(&current, &way).is_none_or(Pool::is_plain)
    }

    /// The servers that would be asked, as they are called, and why those.
    pub fn responsible(&self, question: &Question) -> (Vec<Arc<str>>, Why) {
        let current = self.current();
        let Decision { way, why } = current.table.decide(question, self.opening().0);
        let states = self.pool(&current, &way).map(Pool::states).unwrap_or_default();
        (states.into_iter().map(|state| state.label).collect(), why)
    }

    fn pool<'a>(&'a self, current: &'a Current, way: &Way) -> Option<&'a Pool> {
        match way {
            Way::Upstreams => Some(&self.shared.main),
            Way::Zone(at) => self.shared.zones.get(*at),
            Way::System(servers) => current.pools.get(servers),
            Way::NotFound | Way::Nobody => None,
        }
    }

    /// Asks whoever is responsible.
    ///
    /// # Errors
    /// As [`Pool::exchange`]; [`Error::NotFound`] where the name belongs to a network that has no servers, or whose servers
    /// want nothing of it.
    pub async fn exchange(&self, query: &Query) -> Result<Routed, Error> {
        let current = self.current();
        let opening = self.opening().0;
        let Decision { way, why } = current.table.decide(&query.question, opening);
        if way == Way::NotFound {
            return Err(Error::NotFound { why: why.text() });
        }
        let pool = self.pool(&current, &way);
        match Box::pin(pool.ok_or(Error::NoUpstream)?.exchange(query)).await {
            Ok(answer) => Ok(Routed { answer, why }),
            // its servers are the only ones who could know such a name, and say that it is none of theirs
            Err(Error::Refused { code: REFUSED, .. }) if why == Why::Local => {
                Err(Error::NotFound { why: why.text() })
            }
            Err(error) => Err(error),
        }
    }

    /// The system's servers and domains are others now.
    pub fn set_system(&self, system: System) {
        let before = self.current();
        if before.system == system {
            return;
        }
        let table = match Table::new(&self.shared.settings, &system) {
            Ok(table) => table,
            Err(error) => {
                tracing::warn!(%error, "the system's domains cannot be used");
                return;
            }
        };
        tracing::info!(source = %system.source.map_or("none", Source::text), links = system.links.len(), "the system's name servers changed");
        tracing::debug!(?system, "the system's name servers");
        let servers_changed = before.system.servers() != system.servers();
        let mut pools = HashMap::new();
        for servers in table.system_servers() {
            let made = match before.pools.get(&servers) {
                Some(pool) => pool.clone(),
                None => match Pool::new(&PoolSettings::plain(servers.iter().copied())) {
                    Ok(pool) => pool,
                    Err(error) => {
                        tracing::warn!(%error, "name servers of the system cannot be used");
                        continue;
                    }
                },
            };
            pools.insert(servers, made);
        }
        let made = Arc::new(Current { table, system, pools });
        *self
            .shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = made;
        if servers_changed {
            self.network_changed();
            self.shared.servers_changed.notify_one();
        }
    }

    /// The network is another one: connections through the old one are left, pauses are over.
    pub fn network_changed(&self) {
        for pool in self.pools() {
            pool.network_changed();
        }
    }

    /// The owner lets every name be asked at the network's own servers for a while, to get past a captive portal. No time:
    /// not any longer.
    pub fn open_for(&self, time: Duration) {
        let now = self.shared.started.elapsed();
        self.portal().open_by_owner(now, now + time);
    }

    /// What the network's own servers are asked, and for how long still where the owner said so.
    pub fn opening(&self) -> (Opening, Option<Duration>) {
        let now = self.shared.started.elapsed();
        let portal = self.portal();
        (portal.opening(now), portal.left(now))
    }

    /// Follows the system's servers and the state of the network until `sources` end.
    pub async fn follow(&self, mut sources: Sources) {
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                changed = sources.changed() => match changed {
                    Some(system) => self.set_system(system),
                    None => return,
                },
                _ = look.tick() => self.look_for_portal(sources.connectivity()),
            }
        }
    }

    /// Of all servers.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let servers = self.pools().into_iter().flat_map(|pool| pool.addresses());
        servers.flat_map(|addresses| ways::or_anywhere(&addresses).to_vec())
    }

    fn pools(&self) -> Vec<Pool> {
        let current = self.current();
        let others = self.shared.zones.iter().chain(current.pools.values());
        std::iter::once(&self.shared.main)
            .chain(others)
            .cloned()
            .collect()
    }

    /// The upstreams by the set that they are in: the owner's, each zone's, the system's.
    pub fn states(&self) -> Vec<Set> {
        let current = self.current();
        let set = |source: &'static str, zones, pool: &Pool| Set {
            source,
            zones,
            upstreams: pool.states(),
        };
        let mut all = vec![set("configured", Vec::new(), &self.shared.main)];
        for (at, pool) in self.shared.zones.iter().enumerate() {
            all.push(set("configured", current.table.zones_of(&Way::Zone(at)), pool));
        }
        let source = current.system.source.map_or("system", Source::text);
        all.extend(current.pools.iter().map(|(servers, pool)| {
            let way = Way::System(Arc::clone(servers));
            set(source, current.table.zones_of(&way), pool)
        }));
        all
    }

    fn look_for_portal(&self, connectivity: Connectivity) {
        let now = self.shared.started.elapsed();
        let change = self
            .portal()
            .update(now, self.shared.main.encrypted_all_down(), connectivity);
        match change {
            None => {}
            Some(Opening::Closed) => tracing::info!("no captive portal is suspected any more"),
            Some(_) => tracing::info!(
                "a captive portal is suspected: the names of portal checks are asked at the network's own servers"
            ),
        }
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn portal(&self) -> MutexGuard<'_, Portal> {
        self.shared.portal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a name is one of those by which systems and browsers look for captive portals.
pub fn is_portal_check(name: &Name) -> bool {
    special::is_portal_check(name)
}
