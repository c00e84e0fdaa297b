//! Which circuit a stream goes by: one that is there for this program, else a new one.
//!
//! Streams of different programs never share a circuit, unless their profiles say so. What fails before a stream began is
//! tried again by another way; what the far end itself says goes to the program. Nothing ever goes out directly.

mod ahead;
mod building;
mod choice;
mod means;
mod owner;
mod servers;
mod table;
mod upkeep;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use gate17_proto::{exit::Transport, padding::Grid, path::Path, target::Target};
use proto::gate17::v1::{App, Cause};
use tokio::sync::broadcast;
use verdict::policy::tunnel::ExitChoice;

use self::{
    choice::{Lessons, carrying},
    owner::{Destination, Owner, destination},
    table::Table,
};
use crate::{
    circuit::Circuit,
    figures::Figures,
    guards::{File, Guards},
    health::Nodes,
    history::History,
    map_keeper::Maps,
    near::Reached,
    refusal::Refusal,
    wire,
};

pub use self::{means::Credentials, owner::Want, table::Known};

/// Ways that are tried for one stream.
const TRIES: usize = 3;
/// After that no other is begun: the program has its own patience.
const TRYING: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct Inner {
    maps: Maps,
    credentials: Credentials,
    padding: Option<Grid>,
    nodes: Nodes,
    reached: Reached,
    guards: Mutex<Guards>,
    guard_file: File,
    table: Mutex<Table>,
    last_id: AtomicU64,
    changed: broadcast::Sender<Known>,
    history: History,
    figures: Figures,
}

/// See the module's head; clones are the same.
#[derive(Clone, Debug)]
pub struct Circuits(Arc<Inner>);

impl Circuits {
    /// `credentials`: for networks that want some; `guard_file`: where first nodes are kept; `padding`: of all that is written.
    pub fn new(maps: Maps, credentials: Credentials, padding: Option<Grid>, guard_file: File) -> Self {
        Self(Arc::new(Inner {
            maps,
            credentials,
            padding,
            nodes: Nodes::default(),
            reached: Reached::default(),
            guards: Mutex::new(guard_file.load()),
            guard_file,
            table: Mutex::default(),
            last_id: AtomicU64::new(0),
            changed: broadcast::channel(256).0,
            history: History::default(),
            figures: Figures::default(),
        }))
    }

    /// What is told of them.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
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

    /// The same, remembered.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// Those that live, by number.
    pub fn all(&self) -> Vec<Known> {
        let mut all: Vec<_> = self.lock().all().cloned().collect();
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
        let to = target.and_then(|(target, transport)| destination(target, transport));
        let owner = Owner::of(want, target.map(|(target, _)| target));
        let mut lessons = self.lessons(&owner, to);
        let mut last = None;
        let began = Instant::now();
        for _ in 0..TRIES {
            if began.elapsed() > TRYING {
                break;
            }
            let circuit = match self.circuit(&owner, want, to, &mut lessons).await {
                Ok(circuit) => circuit,
                // no other exit: what this one said holds
                Err(refusal) => return Err(last.unwrap_or(refusal)),
            };
            match work(Arc::clone(&circuit)).await {
                Ok(done) => return Ok(done),
                Err(refusal) => {
                    match refusal.cause {
                        Cause::Policy | Cause::Limit => lessons.avoid.push(circuit.exit.id.clone()),
                        Cause::Node => circuit.drain(),
                        _ => return Err(refusal),
                    }
                    last = Some(refusal);
                }
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Cause::NoPath, "nothing was tried")))
    }

    /// A path that would be chosen now, and the open circuit that would be used instead.
    ///
    /// # Errors
    /// Without a map, or a path in it.
    pub fn route(&self, want: &Want, target: &Target) -> Result<(Path, Option<Arc<Circuit>>), Refusal> {
        let map = self.0.maps.map()?;
        let to = destination(target, Transport::Tcp);
        let owner = Owner::of(want, Some(target));
        let lessons = self.lessons(&owner, to);
        let open = self.lock().ready(&map, &owner, to, &lessons);
        let path = self.path(&map, &owner.shape(), to, &lessons)?;
        Ok((path, open))
    }

    /// Forgets circuits that ended, and closes those that nobody uses.
    pub fn tidy(&self, now: Instant) {
        let map = self.0.maps.map().ok();
        let gone = self.lock().tidy(map.as_deref(), now);
        gone.into_iter().for_each(|known| self.tell(known));
    }

    fn tell(&self, known: Known) {
        self.0.history.tell(wire::circuit(&known));
        // nobody may be watching
        let _ = self.0.changed.send(known);
    }

    /// What is known before anything was tried.
    fn lessons(&self, owner: &Owner, to: Option<Destination>) -> Lessons {
        let near = || {
            let (to, map) = (to?, self.0.maps.map().ok()?);
            let exits = carrying(&map, to);
            self.0.reached.admitted(&exits, to.0, Instant::now())
        };
        Lessons {
            near: (owner.shape().exit == ExitChoice::Near).then(near).flatten(),
            ..Lessons::default()
        }
    }

    async fn circuit(
        &self,
        owner: &Owner,
        want: &Want,
        to: Option<Destination>,
        lessons: &mut Lessons,
    ) -> Result<Arc<Circuit>, Refusal> {
        // without a map in time nothing is carried, also by what is there
        let map = self.0.maps.map()?;
        let ready = |lessons: &Lessons| {
            let mut table = self.lock();
            table.ahead.used(owner, Instant::now());
            table.ready(&map, owner, to, lessons)
        };
        if let Some(circuit) = ready(lessons) {
            return Ok(circuit);
        }
        let turn = Arc::clone(self.lock().turns.entry(owner.clone()).or_default());
        let _mine = turn.lock().await;
        if let Some(circuit) = ready(lessons) {
            return Ok(circuit);
        }
        let (shape, now) = (owner.shape(), Instant::now());
        let spare = {
            let mut table = self.lock();
            table.ahead.needed(shape.clone(), now);
            table.spare(&map, &shape, to, lessons, now)
        };
        let circuit = match spare {
            Some(circuit) => circuit,
            None => Arc::new(self.build(&map, &shape, to, lessons).await?),
        };
        self.give(owner, Some(want.app.clone()), &want.profile, &circuit);
        Ok(circuit)
    }

    /// It is theirs from now on.
    fn give(&self, owner: &Owner, app: Option<App>, profile: &str, circuit: &Arc<Circuit>) {
        let known = Known {
            circuit: Arc::clone(circuit),
            app: app.filter(|_| !owner.is_shared()),
            profile: profile.to_owned(),
            taken: Instant::now(),
        };
        let mut table = self.lock();
        table
            .circuits
            .entry(owner.clone())
            .or_default()
            .push(known.clone());
        self.tell(known);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // nothing in here is left half done by a panic
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
