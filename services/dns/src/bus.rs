//! The desktop's interface `org.portmaster.Dns1`: translates, no more.

use std::sync::Arc;

use daemon::bus::{Desktop, Publisher};
use dns_core::{Name, cache::Cache};
use zbus::{fdo, interface, object_server::SignalEmitter};

use crate::{judge::Judge, kept::Kept, route::Router, wire};

/// Publishes what is answered, until the service stops.
pub async fn serve<L>(
    desktop: &Desktop,
    judge: &Judge<L>,
    kept: &Kept,
    publisher: &Publisher<dbus::DnsQuery>,
) {
    let (path, log) = (desktop.path(), &judge.log);
    let register = async |connection: &zbus::Connection| {
        let interface = Interface {
            cache: Arc::clone(&judge.cache),
            router: judge.lookup.router().clone(),
            kept: kept.clone(),
        };
        connection.object_server().at(path, interface).await.map(|_| ())
    };
    let work = async |connection: &zbus::Connection| {
        let emitter = SignalEmitter::new(connection, path)?;
        let emitter = &emitter;
        publisher
            .pump(async |queries, dropped| Interface::queries_answered(emitter, queries, dropped).await)
            .await
    };
    let follow = async {
        let mut follower = log.follow(false);
        loop {
            let (first, queries, _) = follower.next().await;
            for (query, id) in queries.iter().zip(first..) {
                publisher.push(wire::bus_query(id, query));
            }
        }
    };
    tokio::select! {
        () = desktop.serve(register, work) => {}
        () = follow => {}
    }
}

/// At its object path.
pub struct Interface {
    cache: Arc<Cache>,
    router: Router,
    kept: Kept,
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interface").finish_non_exhaustive()
    }
}

#[interface(name = "org.portmaster.Dns1")]
impl Interface {
    /// Forgets what the cache has of this name, and of those below it; of all where it is empty. Gives how many entries.
    async fn flush(&self, name: &str) -> fdo::Result<u64> {
        let entries = if name.is_empty() {
            self.cache.clear()
        } else {
            let zone: Name = name
                .parse()
                .map_err(|error| fdo::Error::InvalidArgs(format!("{name:?} is no name: {error}")))?;
            self.cache.forget_zone(&zone)
        };
        self.kept.save_soon();
        Ok(entries.try_into().unwrap_or(u64::MAX))
    }

    /// The servers that are asked: those for all names first, then those of zones and of the system.
    async fn upstreams(&self) -> Vec<dbus::DnsUpstream> {
        let sets = self.router.states();
        sets.iter().flat_map(wire::bus_upstreams).collect()
    }

    /// What was answered since the last signal. `dropped`: queries that were lost before these.
    #[zbus(signal)]
    pub async fn queries_answered(
        emitter: &SignalEmitter<'_>,
        queries: Vec<dbus::DnsQuery>,
        dropped: u64,
    ) -> zbus::Result<()>;
}
