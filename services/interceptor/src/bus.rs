//! The desktop's interface `org.portmaster.Interceptor1`: translates, no more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::{
    bus::{Desktop, Publisher},
    metrics::{Histogram, STAGE},
};
use zbus::{interface, object_server::SignalEmitter};

use crate::{
    hub::Hub,
    judge::{Event, EventKind},
    traces::traces,
    wire,
};

/// As events number their kinds.
const DECIDED: u32 = 1;

/// Publishes what `publisher` gets, until the service stops.
pub async fn serve(desktop: &Desktop, hub: &Hub, publisher: &Publisher<dbus::ConnectionEvent>) {
    let path = desktop.path();
    let register = async |connection: &zbus::Connection| {
        connection
            .object_server()
            .at(path, Interface { hub: hub.clone() })
            .await
            .map(|_| ())
    };
    let stage = desktop
        .status()
        .histogram(STAGE, &[("portmaster.stage", "publish-bus")]);
    let work = async |connection: &zbus::Connection| {
        let emitter = SignalEmitter::new(connection, path)?;
        let emitter = &emitter;
        publisher
            .pump(async |events: Vec<dbus::ConnectionEvent>, dropped| {
                let decided: Vec<_> = events
                    .iter()
                    .filter(|event| event.kind == DECIDED)
                    .map(|event| (event.id, event.time))
                    .collect();
                Interface::connections_changed(emitter, events, dropped).await?;
                published(&decided, &stage);
                Ok(())
            })
            .await
    };
    desktop.serve(register, work).await;
}

/// These connections (number, microseconds since 1970) are known on the bus.
fn published(decided: &[(u64, u64)], stage: &Histogram) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for (_, time) in decided {
        stage.record(now.saturating_sub(Duration::from_micros(*time)));
    }
    if let Some(traces) = traces() {
        let ids: Vec<_> = decided.iter().map(|(id, _)| *id).collect();
        traces.on_bus(&ids);
    }
}

/// At its object path.
#[derive(Debug)]
pub struct Interface {
    /// Live connections.
    pub hub: Hub,
}

/// More than this in one answer helps nobody; the gRPC stream has no such bound.
const MOST_LISTED: usize = 10_000;

#[interface(name = "org.portmaster.Interceptor1")]
impl Interface {
    /// The live connections, oldest first; the newest 10,000 where there are more.
    async fn list_connections(&self) -> Vec<dbus::ConnectionEvent> {
        let live = self.hub.live();
        let newest = live.len().saturating_sub(MOST_LISTED);
        let event = |connection| Event {
            kind: EventKind::Decided,
            time: SystemTime::now(),
            connection,
        };
        live.into_iter()
            .skip(newest)
            .map(|connection| wire::bus_event(&event(connection)))
            .collect()
    }

    /// What happened since the last signal. `dropped`: events that were lost before these.
    #[zbus(signal)]
    pub async fn connections_changed(
        emitter: &SignalEmitter<'_>,
        events: Vec<dbus::ConnectionEvent>,
        dropped: u64,
    ) -> zbus::Result<()>;
}
