//! The desktop's interface `org.portmaster.Gate17Entry1`: translates, no more.

use daemon::bus::{Desktop, Publisher};
use tokio::sync::broadcast::error::RecvError;
use zbus::{fdo, interface, object_server::SignalEmitter};

use crate::{circuits::Circuits, wire};

/// Publishes what becomes of circuits, until the service stops.
pub async fn serve(desktop: &Desktop, circuits: &Circuits, publisher: &Publisher<dbus::Gate17Circuit>) {
    let path = desktop.path();
    let register = async |connection: &zbus::Connection| {
        let interface = Interface {
            circuits: circuits.clone(),
        };
        connection.object_server().at(path, interface).await.map(|_| ())
    };
    let work = async |connection: &zbus::Connection| {
        let emitter = SignalEmitter::new(connection, path)?;
        let emitter = &emitter;
        publisher
            .pump(async |circuits, dropped| Interface::circuits_changed(emitter, circuits, dropped).await)
            .await
    };
    let mut changes = circuits.watch();
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

/// At its object path.
#[derive(Debug)]
pub struct Interface {
    circuits: Circuits,
}

#[interface(name = "org.portmaster.Gate17Entry1")]
impl Interface {
    /// Those that are there.
    async fn circuits(&self) -> Vec<dbus::Gate17Circuit> {
        self.circuits.all().iter().map(wire::bus_circuit).collect()
    }

    /// Closes one, and its streams.
    async fn close_circuit(&self, id: u64) -> fdo::Result<()> {
        if self.circuits.close(id) {
            Ok(())
        } else {
            Err(fdo::Error::InvalidArgs(format!("no circuit has the number {id}")))
        }
    }

    /// What became of circuits since the last signal. `dropped`: changes that were lost before these.
    #[zbus(signal)]
    pub async fn circuits_changed(
        emitter: &SignalEmitter<'_>,
        circuits: Vec<dbus::Gate17Circuit>,
        dropped: u64,
    ) -> zbus::Result<()>;
}
