//! What the Gate17 entry tells of its circuits.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, zvariant::Type};

/// A way through Gate17 nodes.
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct Gate17Circuit {
    /// Unique while the service runs.
    pub id: u64,
    /// 1 is being built, 2 ready, 3 takes no new streams, 4 closed.
    pub state: u32,
    /// Ids of the nodes, first to last.
    pub hops: Vec<String>,
    /// Microseconds since 1970; 0 while it is being built.
    pub built: u64,
    /// Through all hops, in microseconds; 0 where it was not measured yet.
    pub round_trip: u64,
    /// Open at present.
    pub streams_now: u32,
    /// Octets from this host.
    pub sent: u64,
    /// Octets to this host.
    pub received: u64,
    /// Path of the program that it is for; empty where it is for none alone.
    pub executable: String,
    /// Id of the profile that it is for.
    pub profile: String,
    /// Why it ended; empty while it lives.
    pub problem: String,
    /// For what comes later.
    pub extra: HashMap<String, OwnedVariant>,
}

/// A node of the map, as that and our own experience have it.
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct Gate17Node {
    /// Unique in the map.
    pub id: String,
    /// Two letters of ISO 3166, lower case.
    pub region: String,
    /// Whose: nodes of one family are never on one path.
    pub family: String,
    /// Carries to other nodes.
    pub relay: bool,
    /// Carries to destinations outside.
    pub exit: bool,
    /// Mbit/s, as the map says.
    pub capacity: u64,
    /// In microseconds; 0 where it was not measured yet.
    pub round_trip: u64,
    /// 0 (well) to 1 (avoided), decays.
    pub trouble: f64,
    /// Why it is avoided; empty otherwise.
    pub problem: String,
    /// `host:port`, in the map's order.
    pub addresses: Vec<String>,
    /// For what comes later.
    pub extra: HashMap<String, OwnedVariant>,
}
