//! What a node makes of its map: to whom it relays, and which addresses are its own.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use gate17_maps::Maps;
use gate17_proto::{
    exit::{BadRule, ExitPolicy, Transport},
    map::{ExitRule, KeyPin, Map},
};

/// See the module's head.
#[derive(Debug)]
pub struct Known {
    maps: Maps,
    own: KeyPin,
    rules: Vec<ExitRule>,
    plain: Arc<Reach>,
    /// Of the map that was there last.
    latest: Mutex<Option<(Arc<Map>, Arc<Reach>)>>,
}

/// Where this node carries to.
#[derive(Debug, Default)]
struct Reach {
    rules: ExitPolicy,
    /// Other nodes, where the map makes this one a relay.
    nodes: HashSet<SocketAddr>,
    /// Addresses of others that are relays.
    relays: HashSet<IpAddr>,
}

impl Known {
    /// For the node with such a key and such rules.
    ///
    /// # Errors
    /// Where a rule cannot be read.
    pub fn new(maps: Maps, own: KeyPin, rules: Vec<ExitRule>) -> Result<Self, BadRule> {
        let plain = Reach {
            rules: ExitPolicy::new(&rules, Vec::new())?,
            ..Reach::default()
        };
        Ok(Self {
            maps,
            own,
            rules,
            plain: Arc::new(plain),
            latest: Mutex::default(),
        })
    }

    /// Whether a stream may go there: a rule says so, or it is a node of the map and this one is its relay.
    pub fn allows(&self, to: SocketAddr, transport: Transport) -> bool {
        let reach = self.reach();
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        reach.rules.check(to.ip(), to.port(), transport).is_ok()
            || (transport == Transport::Tcp && reach.nodes.contains(&to))
    }

    /// Whether who calls from there is a relay of the map.
    pub fn is_node(&self, address: IpAddr) -> bool {
        self.reach().relays.contains(&address.to_canonical())
    }

    fn reach(&self) -> Arc<Reach> {
        let Ok(map) = self.maps.map() else {
            return Arc::clone(&self.plain);
        };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((same, reach)) if Arc::ptr_eq(same, &map) => Arc::clone(reach),
            _ => {
                let reach = Arc::new(self.by(&map));
                *latest = Some((map, Arc::clone(&reach)));
                reach
            }
        }
    }

    fn by(&self, map: &Map) -> Reach {
        let own = map.nodes.iter().find(|node| node.keys.contains(&self.own));
        let addresses: Vec<IpAddr> = own
            .iter()
            .flat_map(|node| &node.addresses)
            .map(|at| at.address)
            .collect();
        let relays = own.is_some_and(|node| node.relay);
        let others = map
            .nodes
            .iter()
            .filter(|node| relays && own.is_none_or(|own| own.id != node.id))
            .flat_map(|node| &node.addresses)
            .map(|at| SocketAddr::new(at.address.to_canonical(), at.port));
        let callers = map
            .nodes
            .iter()
            .filter(|node| node.relay && own.is_none_or(|own| own.id != node.id));
        Reach {
            relays: callers
                .flat_map(|node| &node.addresses)
                .map(|at| at.address.to_canonical())
                .collect(),
            // they were read once already
            rules: ExitPolicy::new(&self.rules, addresses).unwrap_or_default(),
            nodes: others.collect(),
        }
    }
}
