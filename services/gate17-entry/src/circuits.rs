//! Which circuit a stream goes by: one that is there for this program, else a new one.
//!
//! Streams of different programs never share a circuit, unless their profiles say so. What fails before a stream began is
//! tried again by another way; what the far end itself says goes to the program. Nothing ever goes out directly.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gate17_proto::{
    exit::Transport,
    map::{Map, Node, NodeId},
    path::{self, Exit, Path, Wanted},
    target::{Host, Target},
};
use proto::gate17::v1::{App, Cause};
use tokio::sync::{Mutex as Turn, broadcast};
use verdict::policy::tunnel::{ExitChoice, Isolation, TunnelOptions};

use crate::{
    circuit::{self, Circuit, Means},
    health::Nodes,
    map_keeper::Maps,
    refusal::Refusal,
};

/// Ways that are tried for one stream.
const TRIES: usize = 3;
/// From then on a circuit takes no new streams.
const AGE: Duration = Duration::from_secs(600);
/// Streams of one circuit.
const STREAMS: u64 = 200;
/// Circuits at once.
const MOST: usize = 1024;
/// A circuit that carries nothing is closed after this time.
const IDLE: Duration = Duration::from_secs(120);

/// Who shares circuits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Device, inode, script and user; None: not isolated.
    program: Option<(u64, u64, String, u32)>,
    /// Where isolation is by site.
    site: Option<String>,
    options: TunnelOptions,
}

/// What a stream is for.
#[derive(Clone, Debug)]
pub struct Want {
    /// The program.
    pub app: App,
    /// Its profile's id.
    pub profile: String,
    /// What that says.
    pub options: TunnelOptions,
    /// The name that it asked for; empty where it is not known.
    pub domain: String,
}

/// A circuit, and whose it is.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its own.
    pub circuit: Arc<Circuit>,
    /// For display; none where programs share it.
    pub app: Option<App>,
    /// The profile that it was built for.
    pub profile: String,
}

#[derive(Debug, Default)]
struct Table {
    circuits: HashMap<Owner, Vec<Known>>,
    /// One builds at a time for each owner, the others use what it built.
    turns: HashMap<Owner, Arc<Turn<()>>>,
    /// Since when nothing goes through, by circuit.
    idle: HashMap<u64, Instant>,
}

#[derive(Debug)]
struct Inner {
    maps: Maps,
    token: Option<String>,
    nodes: Nodes,
    table: Mutex<Table>,
    last_id: AtomicU64,
    changed: broadcast::Sender<Known>,
}

/// See the module's head; clones are the same.
#[derive(Clone, Debug)]
pub struct Circuits(Arc<Inner>);

impl Circuits {
    /// `token`: for networks that want one.
    pub fn new(maps: Maps, token: Option<String>) -> Self {
        Self(Arc::new(Inner {
            maps,
            token,
            nodes: Nodes::default(),
            table: Mutex::default(),
            last_id: AtomicU64::new(0),
            changed: broadcast::channel(256).0,
        }))
    }

    /// The map's keeper.
    pub fn maps(&self) -> &Maps {
        &self.0.maps
    }

    /// How nodes did.
    pub fn nodes(&self) -> &Nodes {
        &self.0.nodes
    }

    /// Circuits that came or went from now on.
    pub fn watch(&self) -> broadcast::Receiver<Known> {
        self.0.changed.subscribe()
    }

    /// Those that live, by number.
    pub fn all(&self) -> Vec<Known> {
        let mut all: Vec<_> = self.lock().circuits.values().flatten().cloned().collect();
        all.sort_by_key(|known| known.circuit.id);
        all
    }

    /// Closes one; false where there is none of that number.
    pub fn close(&self, id: u64) -> bool {
        let found = self.all().into_iter().find(|known| known.circuit.id == id);
        if let Some(known) = &found {
            known.circuit.close();
            self.tidy(Instant::now());
        }
        found.is_some()
    }

    /// Does `work` on a circuit for `want` that carries to `target`; by another where this one fails.
    ///
    /// # Errors
    /// What the far end said; else the last way's failure.
    pub async fn through<T, F>(
        &self,
        want: &Want,
        target: Option<(&Target, Transport)>,
        work: impl Fn(Arc<Circuit>) -> F,
    ) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Refusal>>,
    {
        let destination =
            target.and_then(|(target, transport)| Some((address(target)?, target.port, transport)));
        let owner = owner(want, target.map(|(target, _)| target));
        let mut avoid = Vec::new();
        let mut last = Refusal::new(Cause::NoPath, "nothing was tried");
        for _ in 0..TRIES {
            let circuit = match self.circuit(&owner, want, destination, &avoid).await {
                Ok(circuit) => circuit,
                Err(refusal) if avoid.is_empty() => return Err(refusal),
                // no other exit: what this one said holds
                Err(_) => return Err(last),
            };
            match work(Arc::clone(&circuit)).await {
                Ok(done) => return Ok(done),
                Err(refusal) => match refusal.cause {
                    Cause::Policy | Cause::Limit => {
                        avoid.push(circuit.exit.id.clone());
                        last = refusal;
                    }
                    Cause::Node => {
                        self.0
                            .nodes
                            .failed(&circuit.exit.id, &refusal.text, Instant::now());
                        circuit.drain();
                        last = refusal;
                    }
                    _ => return Err(refusal),
                },
            }
        }
        Err(last)
    }

    /// A path that would be chosen now, and the open circuit that would be used instead.
    ///
    /// # Errors
    /// Without a map, or a path in it.
    pub fn route(&self, want: &Want, target: &Target) -> Result<(Path, Option<Arc<Circuit>>), Refusal> {
        let map = self.0.maps.map()?;
        let destination = address(target).map(|address| (address, target.port, Transport::Tcp));
        let open = self.ready(&map, &owner(want, Some(target)), destination, &[]);
        let path = self.choose(&map, want, destination, Vec::new())?;
        Ok((path, open))
    }

    /// A circuit of this node alone; not kept.
    ///
    /// # Errors
    /// Where there is no such node, or it cannot be reached.
    pub async fn direct(&self, node: &str) -> Result<Circuit, Refusal> {
        let map = self.0.maps.map()?;
        let found = map.nodes.iter().find(|known| known.id.0 == node);
        let node =
            found.ok_or_else(|| Refusal::new(Cause::NoPath, format!("the map has no node {node:?}")))?;
        let means = self.means(&map)?;
        circuit::build(0, std::slice::from_ref(node), &means)
            .await
            .map_err(|error| Refusal::new(Cause::Node, error.to_string()))
    }

    /// Forgets circuits that ended, and closes those that nobody uses.
    pub fn tidy(&self, now: Instant) {
        let mut gone = Vec::new();
        {
            let mut table = self.lock();
            let Table {
                circuits,
                turns,
                idle,
            } = &mut *table;
            circuits.retain(|_, known| {
                known.retain(|known| {
                    let circuit = &known.circuit;
                    let used = circuit.carried.now.load(Ordering::Relaxed) > 0;
                    let since = if used {
                        now
                    } else {
                        *idle.entry(circuit.id).or_insert(now)
                    };
                    if used {
                        idle.remove(&circuit.id);
                    }
                    let is_old = now.saturating_duration_since(circuit.since) > AGE;
                    if is_old {
                        circuit.drain();
                    }
                    let over = !used && (!circuit.is_open() || now.saturating_duration_since(since) > IDLE);
                    let stays = circuit.lives() && !over;
                    if !stays {
                        circuit.close();
                        idle.remove(&circuit.id);
                        gone.push(known.clone());
                    }
                    stays
                });
                !known.is_empty()
            });
            turns.retain(|owner, turn| circuits.contains_key(owner) || Arc::strong_count(turn) > 1);
        }
        for known in gone {
            // nobody may be watching
            let _ = self.0.changed.send(known);
        }
    }

    async fn circuit(
        &self,
        owner: &Owner,
        want: &Want,
        destination: Option<(IpAddr, u16, Transport)>,
        avoid: &[NodeId],
    ) -> Result<Arc<Circuit>, Refusal> {
        // without a map in time nothing is carried, also by what is there
        let map = self.0.maps.map()?;
        if let Some(circuit) = self.ready(&map, owner, destination, avoid) {
            return Ok(circuit);
        }
        let turn = Arc::clone(self.lock().turns.entry(owner.clone()).or_default());
        let _mine = turn.lock().await;
        if let Some(circuit) = self.ready(&map, owner, destination, avoid) {
            return Ok(circuit);
        }
        if self.all().len() >= MOST {
            return Err(Refusal::new(
                Cause::Limit,
                format!("{MOST} circuits are open already"),
            ));
        }
        self.build(&map, owner, want, destination, avoid).await
    }

    /// Builds one, by another path where a node fails.
    async fn build(
        &self,
        map: &Map,
        owner: &Owner,
        want: &Want,
        destination: Option<(IpAddr, u16, Transport)>,
        avoid: &[NodeId],
    ) -> Result<Arc<Circuit>, Refusal> {
        let means = self.means(map)?;
        let mut failure = None;
        let mut failed: Vec<NodeId> = Vec::new();
        for _ in 0..TRIES {
            let avoided = avoid.iter().chain(&failed).cloned().collect();
            let path = match self.choose(map, want, destination, avoided) {
                Ok(path) => path,
                // too few nodes to do without the one that failed: what happened is told, not that
                Err(refusal) => return Err(failure.unwrap_or(refusal)),
            };
            let nodes: Vec<Node> = path
                .nodes
                .iter()
                .filter_map(|id| node(map, id))
                .cloned()
                .collect();
            let id = self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1;
            match circuit::build(id, &nodes, &means).await {
                Ok(circuit) => {
                    let circuit = Arc::new(circuit);
                    let hops = u32::try_from(nodes.len()).unwrap_or(1).max(1);
                    if let Some(first) = nodes.first() {
                        self.0
                            .nodes
                            .measured(&first.id, circuit.building / (3 * hops), Instant::now());
                    }
                    let known = Known {
                        circuit: Arc::clone(&circuit),
                        app: owner.program.is_some().then(|| want.app.clone()),
                        profile: want.profile.clone(),
                    };
                    self.lock()
                        .circuits
                        .entry(owner.clone())
                        .or_default()
                        .push(known.clone());
                    let _ = self.0.changed.send(known);
                    return Ok(circuit);
                }
                Err(error) => {
                    self.0.nodes.failed(&error.node, &error.text, Instant::now());
                    failed.push(error.node.clone());
                    failure = Some(Refusal::new(Cause::Node, error.to_string()));
                }
            }
        }
        Err(failure.unwrap_or_else(|| Refusal::new(Cause::NoPath, "no circuit")))
    }

    fn choose(
        &self,
        map: &Map,
        want: &Want,
        destination: Option<(IpAddr, u16, Transport)>,
        avoid: Vec<NodeId>,
    ) -> Result<Path, Refusal> {
        let now = Instant::now();
        let mut wanted = Wanted {
            hops: want.options.hops.get(),
            exit: Exit::Any,
            destination,
            guard: None,
            avoid,
        };
        if let ExitChoice::Among { regions, nodes } = &want.options.exit {
            // a node, or any of a region: both as the ids that they stand for
            let admitted = map
                .nodes
                .iter()
                .filter(|node| regions.contains(&node.region) || nodes.contains(&node.id.0));
            wanted.exit = Exit::Nodes(admitted.map(|node| node.id.clone()).collect());
        }
        let health = |node: &NodeId| self.0.nodes.of(node, now);
        path::choose(map, &wanted, health, rand::random()).map_err(|no| {
            let cause = if no == path::NoPath::Policy {
                Cause::Policy
            } else {
                Cause::NoPath
            };
            Refusal::new(cause, no.to_string())
        })
    }

    /// One that is there, and takes another stream to that destination.
    fn ready(
        &self,
        map: &Map,
        owner: &Owner,
        destination: Option<(IpAddr, u16, Transport)>,
        avoid: &[NodeId],
    ) -> Option<Arc<Circuit>> {
        let now = Instant::now();
        let table = self.lock();
        let fits = |known: &&Known| {
            let circuit = &known.circuit;
            circuit.is_open()
                // what the map says no more is used no more
                && circuit.hops.iter().all(|hop| node(map, hop).is_some())
                && node(map, &circuit.exit.id) == Some(&circuit.exit)
                && now.saturating_duration_since(circuit.since) < AGE
                && circuit.carried.now.load(Ordering::Relaxed) < STREAMS
                && !avoid.contains(&circuit.exit.id)
                && destination.is_none_or(|destination| circuit.carries(destination))
        };
        let found = table.circuits.get(owner)?.iter().find(fits)?;
        Some(Arc::clone(&found.circuit))
    }

    fn means(&self, map: &Map) -> Result<Means, Refusal> {
        use gate17_proto::{access::map_token, map::Access};
        let token = match map.access {
            Access::None => None,
            Access::Map => Some(map_token(&map.knock)),
            Access::Token => Some(self.0.token.clone().ok_or_else(|| {
                Refusal::new(
                    Cause::NoPath,
                    "the network wants a token, and gate17-entry.toml names no file with one",
                )
            })?),
            Access::Key => {
                return Err(Refusal::new(
                    Cause::NoPath,
                    "the network admits clients by key, which this version cannot do: ask its operator for a token",
                ));
            }
        };
        let value = token.map(|token| format!("Bearer {token}").parse());
        let authorization = value
            .transpose()
            .map_err(|_| Refusal::new(Cause::NoPath, "the token has octets that no header may have"))?;
        Ok(Means { authorization })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // nothing in here is left half done by a panic
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(want: &Want, target: Option<&Target>) -> Owner {
    let App {
        device,
        inode,
        script,
        uid,
        ..
    } = &want.app;
    let program = (*device, *inode, script.clone(), *uid);
    let site = || {
        if want.domain.is_empty() {
            target.map(|target| target.host.to_string())
        } else {
            Some(want.domain.clone())
        }
    };
    let (program, site) = match want.options.isolate {
        Isolation::None => (None, None),
        Isolation::App => (Some(program), None),
        Isolation::Site => (Some(program), site()),
    };
    Owner {
        program,
        site,
        options: want.options.clone(),
    }
}

fn node<'a>(map: &'a Map, id: &NodeId) -> Option<&'a Node> {
    map.nodes.iter().find(|node| node.id == *id)
}

const fn address(target: &Target) -> Option<IpAddr> {
    match target.host {
        Host::V4(address) => Some(IpAddr::V4(address)),
        Host::V6(address) => Some(IpAddr::V6(address)),
        Host::Name(_) => None,
    }
}
