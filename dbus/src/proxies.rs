//! For programs that listen.

use std::collections::HashMap;

use zbus::OwnedVariant;

use crate::{ConnectionEvent, DnsQuery, DnsUpstream, Explanation, Gate17Circuit, Gate17Node};

/// What every service says of itself. The destination is the service's own name.
#[zbus::proxy(interface = "org.portmaster.Service1", assume_defaults = false)]
pub trait Service1 {
    /// 1 starting, 2 working, 3 working with less than it should have, 4 failed.
    #[zbus(property)]
    fn state(&self) -> zbus::Result<u32>;
    /// Of the running binary.
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
    /// Of the policy in force in this service.
    #[zbus(property)]
    fn policy_version(&self) -> zbus::Result<u64>;
    /// A stable word, and what it means.
    #[zbus(property)]
    fn problems(&self) -> zbus::Result<Vec<(String, String)>>;
    /// By name.
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self) -> zbus::Result<HashMap<String, u64>>;
}

/// Connections; for root and group `portmaster`.
#[zbus::proxy(
    interface = "org.portmaster.Interceptor1",
    default_service = "org.portmaster.Interceptor1",
    default_path = "/org/portmaster/Interceptor1"
)]
pub trait Interceptor1 {
    /// The live connections, oldest first.
    fn list_connections(&self) -> zbus::Result<Vec<ConnectionEvent>>;
    /// What happened since the last signal; `dropped` events were lost before these.
    #[zbus(signal)]
    fn connections_changed(&self, events: Vec<ConnectionEvent>, dropped: u64) -> zbus::Result<()>;
}

/// What the owner wants. Files and explanations are for root and group `portmaster`; a pause is for root and whom polkit lets
/// (action `org.portmaster.policy.pause`, asked about the caller); whether there is one, everybody may know.
#[zbus::proxy(
    interface = "org.portmaster.Policy1",
    default_service = "org.portmaster.Policy1",
    default_path = "/org/portmaster/Policy1"
)]
pub trait Policy1 {
    /// Path, and what is wrong with it.
    fn list_refused(&self) -> zbus::Result<Vec<(String, String)>>;

    /// What would happen to a connection, and by which rule; the same as over gRPC.
    ///
    /// - `executable`: the program's path, in the host's mount namespace; empty: not known.
    /// - `uid`: 4294967295 together with no program: a process that could not be found.
    /// - `direction`: 1 outgoing, 2 incoming. `protocol`: IANA number.
    /// - `local`, `remote`: address (4 or 16 octets) and port, as in `ConnectionsChanged`; for ICMP, the remote port is
    ///   type × 256 + code. No local address: any. No remote address, with a domain: an internet address that no rule names
    ///   (192.0.2.1, `assumed_address` in the answer).
    /// - `domain`: the name asked for; may be empty.
    /// - `more`: of the process, as texts: `script`, `unit`, `cgroup`, `flatpak`, `snap`, `container`; as octets: `sha256`.
    ///   Another key is refused.
    #[expect(clippy::too_many_arguments, reason = "as many as the method on the bus has")]
    fn explain(
        &self,
        executable: &str,
        uid: u32,
        direction: u32,
        protocol: u32,
        local: &(Vec<u8>, u16),
        remote: &(Vec<u8>, u16),
        domain: &str,
        more: &HashMap<String, OwnedVariant>,
    ) -> zbus::Result<Explanation>;

    /// Lets pass what would be refused, from now on for 1 to 86,400 seconds; gives its end (see `paused_until`). Who asks may
    /// be asked for a password.
    #[zbus(allow_interactive_auth)]
    fn pause(&self, seconds: u64) -> zbus::Result<u64>;

    /// Ends a pause; false: there was none. Who asks may be asked for a password.
    #[zbus(allow_interactive_auth)]
    fn resume(&self) -> zbus::Result<bool>;

    /// The end of the pause in force, in microseconds since 1970; 0: not paused.
    #[zbus(property)]
    fn paused_until(&self) -> zbus::Result<u64>;
}

/// The local DNS server; for root and group `portmaster`.
#[zbus::proxy(
    interface = "org.portmaster.Dns1",
    default_service = "org.portmaster.Dns1",
    default_path = "/org/portmaster/Dns1"
)]
pub trait Dns1 {
    /// Forgets what the cache has of this name, and of those below it; of all where it is empty. Gives how many entries.
    fn flush(&self, name: &str) -> zbus::Result<u64>;
    /// The servers that are asked: those for all names first, then those of zones and of the system.
    fn upstreams(&self) -> zbus::Result<Vec<DnsUpstream>>;
    /// What was answered since the last signal; `dropped` queries were lost before these.
    #[zbus(signal)]
    fn queries_answered(&self, queries: Vec<DnsQuery>, dropped: u64) -> zbus::Result<()>;
}

/// Circuits through Gate17; for root and group `portmaster`.
#[zbus::proxy(
    interface = "org.portmaster.Gate17Entry1",
    default_service = "org.portmaster.Gate17Entry1",
    default_path = "/org/portmaster/Gate17Entry1"
)]
pub trait Gate17Entry1 {
    /// Those that are there.
    fn circuits(&self) -> zbus::Result<Vec<Gate17Circuit>>;
    /// Closes one, and its streams.
    fn close_circuit(&self, id: u64) -> zbus::Result<()>;
    /// The map's nodes, in its order.
    fn nodes(&self) -> zbus::Result<Vec<Gate17Node>>;
    /// By which nodes `host:port` would be reached (`profile` empty: by the settings for all programs), the number of an open
    /// circuit that would be used (0: a new one), and why these, or why there is no way.
    fn route(&self, destination: &str, profile: &str) -> zbus::Result<(Vec<String>, u64, Vec<String>)>;
    /// How far a node is: microseconds for TCP and TLS, and for a round trip then (0: not answered). What fails is an error.
    fn ping(&self, node: &str) -> zbus::Result<(u64, u64)>;
    /// Open streams; octets from this host and to it since the service runs.
    fn totals(&self) -> zbus::Result<(u64, u64, u64)>;
    /// Name of the network; empty without a map.
    #[zbus(property)]
    fn network(&self) -> zbus::Result<String>;
    /// The map's serial; 0 without one.
    #[zbus(property)]
    fn map_serial(&self) -> zbus::Result<u64>;
    /// Until when it holds: microseconds since 1970; 0 without one.
    #[zbus(property)]
    fn map_expires(&self) -> zbus::Result<u64>;
    /// Why there is no map, or one that was offered was refused; empty otherwise.
    #[zbus(property)]
    fn map_problem(&self) -> zbus::Result<String>;
    /// What became of circuits since the last signal; `dropped` changes were lost before these.
    #[zbus(signal)]
    fn circuits_changed(&self, circuits: Vec<Gate17Circuit>, dropped: u64) -> zbus::Result<()>;
}
