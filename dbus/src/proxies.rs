//! For programs that listen.

use std::collections::HashMap;

use crate::{ConnectionEvent, DnsQuery};

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

/// The owner's files; for root and group `portmaster`.
#[zbus::proxy(
    interface = "org.portmaster.Policy1",
    default_service = "org.portmaster.Policy1",
    default_path = "/org/portmaster/Policy1"
)]
pub trait Policy1 {
    /// Path, and what is wrong with it.
    fn list_refused(&self) -> zbus::Result<Vec<(String, String)>>;
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
    /// What was answered since the last signal; `dropped` queries were lost before these.
    #[zbus(signal)]
    fn queries_answered(&self, queries: Vec<DnsQuery>, dropped: u64) -> zbus::Result<()>;
}
