//! The desktop's interface `org.portmaster.Dns1`: translates, no more.

use std::{io, sync::Arc, thread};

use daemon::{
    bus::{Desktop, PATIENCE, PAUSE, stuck},
    status::Counter,
};
use dns_core::{Name, cache::Cache};
use tokio::{
    runtime,
    sync::{Mutex, oneshot},
    time,
};
use zbus::{fdo, interface, object_server::SignalEmitter};

use crate::{
    judge::Judge,
    kept::Kept,
    log::{Follower, Start},
    route::Router,
    schedule, wire,
};

/// Queries in one signal: 20,000 a second, and well below the bus's limit for messages.
const MOST_IN_SIGNAL: usize = 1024;

/// Starts the thread that publishes what is answered, until the service stops. `lost` counts what nobody got. What comes is done when it
/// ends. A thread of its own, behind all others: signals are long, and hold up nobody who is answered meanwhile on the same processor.
///
/// # Errors
/// Where there is no thread to be had.
pub fn start<L: Send + Sync + 'static>(
    desktop: Desktop,
    judge: Arc<Judge<L>>,
    kept: Kept,
    lost: Counter,
) -> io::Result<oneshot::Receiver<()>> {
    let (end, ended) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        if let Err(error) = schedule::later() {
            tracing::debug!(%error, "signals for the desktop may hold up answers");
        }
        runtime.block_on(serve(&desktop, &judge, &kept, &lost));
        // nobody waits any more where the service ended first
        let _ = end.send(());
    };
    thread::Builder::new().name("dns-bus".into()).spawn(run)?;
    Ok(ended)
}

/// Nothing is made of a query that is not sent.
async fn serve<L>(desktop: &Desktop, judge: &Judge<L>, kept: &Kept, lost: &Counter) {
    let path = desktop.path();
    let register = async |connection: &zbus::Connection| {
        let interface = Interface {
            cache: Arc::clone(&judge.cache),
            router: judge.lookup.router().clone(),
            kept: kept.clone(),
        };
        connection.object_server().at(path, interface).await.map(|_| ())
    };
    let unsent = Mutex::new(Unsent {
        queries: judge.log.follow(Start::Now),
        untold: 0,
    });
    let work = async |connection: &zbus::Connection| {
        let emitter = SignalEmitter::new(connection, path)?;
        unsent.lock().await.publish(&emitter, lost).await
    };
    desktop.serve(register, work).await;
}

/// What the bus has not got, while it is away as well.
struct Unsent {
    queries: Follower,
    /// So many were lost, and nobody was told of it.
    untold: u64,
}

impl Unsent {
    /// Sends at once when idle and every 50 ms under load, until the bus does not take it.
    async fn publish(&mut self, emitter: &SignalEmitter<'_>, lost: &Counter) -> zbus::Result<()> {
        loop {
            let (first, queries, dropped) = self.queries.next(MOST_IN_SIGNAL).await;
            let due = time::Instant::now() + PAUSE;
            lost.add(dropped);
            let count = u64::try_from(queries.len()).unwrap_or(u64::MAX);
            let dropped = self.untold + dropped;
            // should the bus be lost meanwhile
            self.untold = dropped + count;
            let numbered = queries.iter().zip(first..);
            let told = numbered.map(|(query, id)| wire::bus_query(id, query)).collect();
            let sending = Interface::queries_answered(emitter, told, dropped);
            let sent = time::timeout(PATIENCE, sending).await;
            if !matches!(sent, Ok(Ok(()))) {
                lost.add(count);
                return sent.unwrap_or(Err(stuck()));
            }
            self.untold = 0;
            time::sleep_until(due).await;
        }
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
