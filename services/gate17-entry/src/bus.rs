//! The desktop's interface `org.portmaster.Gate17Entry1`: translates, no more.

use std::time::{Duration, SystemTime};

use daemon::bus::{Desktop, Publisher};
use gate17_maps::Maps;
use proto::gate17::v1::MapState;
use tokio::sync::broadcast::error::RecvError;
use zbus::{fdo, interface, object_server::SignalEmitter};

use crate::{opening::Opening, splice::Carried, told, wire};

/// A map is looked at so often, for properties that changed.
const LOOK: Duration = Duration::from_secs(1);
/// A bus that takes no message for so long is left, and joined anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// Publishes what becomes of circuits, until the service stops.
pub async fn serve(
    desktop: &Desktop,
    opening: &Opening,
    carried: &Carried,
    publisher: &Publisher<dbus::Gate17Circuit>,
) {
    let path = desktop.path();
    let register = async |connection: &zbus::Connection| {
        let interface = Interface {
            opening: opening.clone(),
            carried: carried.clone(),
        };
        connection.object_server().at(path, interface).await.map(|_| ())
    };
    let work = async |connection: &zbus::Connection| {
        let emitter = SignalEmitter::new(connection, path)?;
        let emitter = &emitter;
        let pump = publisher
            .pump(async |circuits, dropped| Interface::circuits_changed(emitter, circuits, dropped).await);
        tokio::select! {
            ended = pump => ended,
            ended = tell_maps(connection, path, opening.circuits.maps()) => ended,
        }
    };
    let mut changes = opening.circuits.watch();
    let follow = async {
        loop {
            match changes.recv().await {
                Ok(known) => publisher.push(wire::bus_circuit(&known)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    tokio::select! {
        () = desktop.serve(register, work) => {}
        () = follow => {}
    }
}

/// Whenever the map is another, or something else is wrong with it; once at the beginning, since what came before the bus
/// was there went unsaid.
async fn tell_maps(connection: &zbus::Connection, path: &str, maps: &Maps) -> zbus::Result<()> {
    let interface = connection.object_server().interface::<_, Interface>(path).await?;
    let mut before: Option<Told> = None;
    loop {
        let now = Told::of(maps.told());
        if before.as_ref() != Some(&now) {
            let tell = async {
                let (emitter, interface) = (interface.signal_emitter(), interface.get().await);
                interface.network_changed(emitter).await?;
                interface.map_serial_changed(emitter).await?;
                interface.map_expires_changed(emitter).await?;
                interface.map_problem_changed(emitter).await
            };
            let stuck = || zbus::Error::Failure("the bus takes no messages".into());
            tokio::time::timeout(PATIENCE, tell)
                .await
                .map_err(|_| stuck())??;
            before = Some(now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Of the map, what the properties say.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    network: String,
    serial: u64,
    expires: u64,
    problem: String,
}

impl Told {
    fn of(map: MapState) -> Self {
        let expires = map.expires.and_then(|time| SystemTime::try_from(time).ok());
        let since = expires.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        Self {
            network: map.network,
            serial: map.serial,
            expires: since.map_or(0, wire::micros),
            problem: map.problem,
        }
    }
}

/// At its object path.
#[derive(Debug)]
pub struct Interface {
    opening: Opening,
    carried: Carried,
}

impl Interface {
    fn map(&self) -> Told {
        Told::of(self.opening.circuits.maps().told())
    }
}

#[interface(name = "org.portmaster.Gate17Entry1")]
impl Interface {
    /// Those that are there.
    async fn circuits(&self) -> Vec<dbus::Gate17Circuit> {
        self.opening
            .circuits
            .all()
            .iter()
            .map(wire::bus_circuit)
            .collect()
    }

    /// Closes one, and its streams.
    async fn close_circuit(&self, id: u64) -> fdo::Result<()> {
        if self.opening.circuits.close(id) {
            Ok(())
        } else {
            Err(fdo::Error::InvalidArgs(format!("no circuit has the number {id}")))
        }
    }

    /// The map's nodes, in its order.
    async fn nodes(&self) -> Vec<dbus::Gate17Node> {
        let nodes = told::nodes(&self.opening.circuits).nodes;
        nodes.into_iter().map(wire::bus_node).collect()
    }

    /// By which nodes `host:port` would be reached (`profile` empty: by the settings for all programs), the number of an open
    /// circuit that would be used (0: a new one), and why these, or why there is no way.
    #[zbus(out_args("hops", "circuit", "steps"))]
    async fn route(&self, destination: &str, profile: &str) -> fdo::Result<(Vec<String>, u64, Vec<String>)> {
        let route = told::route(&self.opening, destination, profile);
        let route = route.map_err(|no| fdo::Error::InvalidArgs(no.to_string()))?;
        let hops = route.hops.into_iter().map(|node| node.id).collect();
        Ok((hops, route.circuit, route.steps))
    }

    /// How far a node is: microseconds for TCP and TLS, and for a round trip then (0: not answered). What fails is an error.
    #[zbus(out_args("connect", "round_trip"))]
    async fn ping(&self, node: &str) -> fdo::Result<(u64, u64)> {
        let answer = told::ping(&self.opening.circuits, node).await;
        if !answer.problem.is_empty() {
            return Err(fdo::Error::Failed(format!("{node}: {}", answer.problem)));
        }
        Ok((
            answer.connect.map_or(0, wire::micros),
            answer.round_trip.map_or(0, wire::micros),
        ))
    }

    /// Open streams; octets from this host and to it since the service runs.
    #[zbus(out_args("streams_now", "sent", "received"))]
    async fn totals(&self) -> (u64, u64, u64) {
        let streams = told::streams_now(&self.opening.circuits);
        (streams, self.carried.sent.get(), self.carried.received.get())
    }

    /// Name of the network; empty without a map.
    #[zbus(property)]
    async fn network(&self) -> String {
        self.map().network
    }

    /// The map's serial; 0 without one.
    #[zbus(property)]
    async fn map_serial(&self) -> u64 {
        self.map().serial
    }

    /// Until when it holds: microseconds since 1970; 0 without one.
    #[zbus(property)]
    async fn map_expires(&self) -> u64 {
        self.map().expires
    }

    /// Why there is no map, or one that was offered was refused; empty otherwise.
    #[zbus(property)]
    async fn map_problem(&self) -> String {
        self.map().problem
    }

    /// What became of circuits since the last signal. `dropped`: changes that were lost before these.
    #[zbus(signal)]
    pub async fn circuits_changed(
        emitter: &SignalEmitter<'_>,
        circuits: Vec<dbus::Gate17Circuit>,
        dropped: u64,
    ) -> zbus::Result<()>;
}
