//! What `ConnectionsChanged` carries.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, zvariant::Type};

/// Something that happened to a connection. Numbers of kinds, directions, scopes, verdicts and reasons are those of the gRPC
/// contracts; 0 is "unknown".
#[derive(Debug, Serialize, Deserialize, Type)]
pub struct ConnectionEvent {
    /// 1 decided, 2 decided anew, 3 ended.
    pub kind: u32,
    /// Unique while the host is up.
    pub id: u64,
    /// Microseconds since 1970.
    pub time: u64,
    /// 1 outgoing, 2 incoming.
    pub direction: u32,
    /// IANA number.
    pub protocol: u32,
    /// Address (4 or 16 octets) and port.
    pub local: (Vec<u8>, u16),
    /// Address (4 or 16 octets) and port.
    pub remote: (Vec<u8>, u16),
    /// 1 this host, 2 local network, 3 internet, 4 multicast.
    pub scope: u32,
    /// 0 where the process is not known.
    pub pid: u32,
    /// 4294967295 where the user is not known.
    pub uid: u32,
    /// Path; empty where not known.
    pub executable: String,
    /// Id; empty for the global defaults.
    pub profile: String,
    /// The name asked for; empty where not known.
    pub domain: String,
    /// 1 allow, 2 block, 3 drop, 4 tunnel, 5 redirect-dns.
    pub verdict: u32,
    /// As a number.
    pub why: u32,
    /// As a stable word.
    pub why_text: String,
    /// `file#rule` or `file#setting`.
    pub rule: String,
    /// At the end.
    pub sent_bytes: u64,
    /// At the end.
    pub sent_packets: u64,
    /// At the end.
    pub received_bytes: u64,
    /// At the end.
    pub received_packets: u64,
    /// At the end, in microseconds.
    pub duration: u64,
    /// What not every connection has: `hops` (`as`, ids of Gate17's nodes), `tunnel_problem` (`s`, why Gate17 does not carry it).
    pub extra: HashMap<String, OwnedVariant>,
}
