//! What the entry says of its circuits.

use integration::{Service, World, events::channel};
use proto::gate17::v1::{
    Circuit, CloseCircuitRequest, ListCircuitsRequest, gate17_entry_client::Gate17EntryClient,
};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// Asks it.
pub(super) struct Entry {
    runtime: Runtime,
    client: Gate17EntryClient<Channel>,
}

impl Entry {
    pub(super) fn new(world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("build a tokio runtime");
        let client = {
            let _inside = runtime.enter();
            Gate17EntryClient::new(channel(&world.socket(Service::Gate17Entry)))
        };
        Self { runtime, client }
    }

    /// All that it has.
    pub(super) fn circuits(&self) -> Vec<Circuit> {
        let mut client = self.client.clone();
        let reply = self
            .runtime
            .block_on(async move { client.list_circuits(ListCircuitsRequest {}).await });
        reply.expect("the entry lists its circuits").into_inner().circuits
    }

    /// Ends them all.
    pub(super) fn close_all(&self) {
        for circuit in self.circuits() {
            let mut client = self.client.clone();
            let id = circuit.id;
            // it may have ended by itself
            let _ = self
                .runtime
                .block_on(async move { client.close_circuit(CloseCircuitRequest { id }).await });
        }
    }
}

/// Milliseconds that building took.
pub(super) fn building(circuit: &Circuit) -> Option<f64> {
    let took = circuit.building.as_ref()?;
    Some(took.seconds as f64 * 1e3 + f64::from(took.nanos) / 1e6)
}
