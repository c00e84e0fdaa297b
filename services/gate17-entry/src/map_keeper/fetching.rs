//! Fetches the map before it is over: from web servers, and from the network's own nodes. Whatever comes is verified like any
//! other; who serves it can only withhold it.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use gate17_maps::{Maps, Web, due};
use gate17_proto::map::Refused;
use jiff::Timestamp;
use tokio::time::timeout;

use crate::{
    blame::{Fault, Seen},
    circuit::{Circuit, Fetched},
    circuits::Circuits,
};

/// For one source to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nodes that are asked, one after the other.
const NODES: usize = 3;

/// Where maps are fetched from, beside files.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `https://…`, tried in their order.
    pub urls: Vec<String>,
    /// Whom those servers' certificates are to be of; None: the system's authorities.
    pub authorities: Option<PathBuf>,
    /// Whether nodes of the map are asked.
    pub nodes: bool,
}

impl Sources {
    /// Fetches for ever.
    pub async fn follow(self, circuits: Circuits) {
        let maps = circuits.maps().clone();
        let mut fetcher = Fetcher {
            web: Web::new(self.urls, self.authorities),
            asks_nodes: self.nodes,
            circuits,
            maps: maps.clone(),
            tags: HashMap::new(),
        };
        let (mut fetched, mut failures) = (false, 0);
        loop {
            let pause = due::next(
                maps.latest().as_deref(),
                fetched,
                failures,
                Timestamp::now(),
                rand::random(),
            );
            tokio::time::sleep(pause).await;
            // without keys to believe, nothing that comes could be verified
            if !maps.is_set_up() {
                continue;
            }
            failures = if fetcher.run().await { 0 } else { failures + 1 };
            fetched = true;
        }
    }
}

struct Fetcher {
    web: Web,
    asks_nodes: bool,
    circuits: Circuits,
    maps: Maps,
    /// By node: what it calls the map that is held.
    tags: HashMap<String, String>,
}

impl Fetcher {
    /// Whether any source had a map that holds, the one of before or another; or there was nobody to ask.
    async fn run(&mut self) -> bool {
        if self.web.ask(&self.maps).await {
            return true;
        }
        let Some(map) = self.maps.latest().filter(|_| self.asks_nodes) else {
            return self.web.is_empty();
        };
        let mut through = Vec::new();
        while through.len() < NODES {
            let Some(circuit) = self.circuits.far_server(&through).await else {
                break;
            };
            through.push(circuit.exit.id.clone());
            if self.has_one(circuit).await {
                return true;
            }
        }
        if !through.is_empty() {
            return false;
        }
        // the map is over, or the network is one node
        for node in self.circuits.servers(&map, NODES) {
            match self.circuits.server(&map, &node).await {
                Ok(circuit) => {
                    if self.has_one(circuit).await {
                        return true;
                    }
                }
                Err(refusal) => tracing::debug!(%refusal, "the map was not fetched"),
            }
        }
        false
    }

    /// Whether the last node of a circuit has a map that holds, be it the one that is known.
    async fn has_one(&mut self, circuit: Circuit) -> bool {
        let circuit = Arc::new(circuit);
        let node = &circuit.exit.id;
        let source = format!("node {}", node.0);
        let fetched = circuit.fetch_map(self.tags.get(&source).map(String::as_str));
        let fetched = match timeout(PATIENCE, fetched).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(refusal)) => {
                tracing::debug!(%refusal, "the map was not fetched");
                return false;
            }
            Err(_) => return false,
        };
        match self.taken(&source, fetched) {
            Ok(()) => true,
            // it did not hear of the newest one yet: nor is there reason to ask again soon
            Err(Refused::Rollback { .. }) => true,
            Err(Refused::Expired(_)) => false,
            Err(refused) => {
                let fault = Fault::new(0, Seen::Violated, format!("the map that it serves: {refused}"));
                let (nodes, now) = (self.circuits.nodes(), Instant::now());
                nodes.failed(std::slice::from_ref(node), &fault, now);
                self.maps
                    .report("a node's map", Some(format!("{source}: {refused}")));
                false
            }
        }
    }

    fn taken(&mut self, source: &str, fetched: Fetched) -> Result<(), Refused> {
        let Fetched::New(envelope, tag) = fetched else {
            return Ok(());
        };
        self.maps.offer(&envelope, source)?;
        self.maps.report("a node's map", None);
        match tag {
            Some(tag) => self.tags.insert(source.to_owned(), tag),
            None => self.tags.remove(source),
        };
        Ok(())
    }
}
