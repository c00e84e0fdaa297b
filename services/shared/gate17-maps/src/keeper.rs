//! The map: read from files and offered, verified, kept over restarts.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use daemon::status::Status;
use gate17_proto::map::{Accepted, Held, Map, Refused, Trust};
use jiff::Timestamp;
use proto::gate17::v1::MapState;

use crate::watched::{Changed, Watched};

const PROBLEM: &str = "gate17-map";
/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    map: Option<Arc<Map>>,
    /// Of `map`, as it came.
    envelope: Option<Arc<[u8]>>,
    source: String,
    fetched: Option<SystemTime>,
    watched: Watched,
    /// By where it came from: why there is none, or the last one that was offered was refused.
    problems: BTreeMap<String, String>,
    told: String,
}

/// Why there is no map that holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoMap {
    /// In words.
    pub text: String,
}

/// Clones are the same.
#[derive(Clone, Debug)]
pub struct Maps {
    state: Arc<Mutex<State>>,
    trust: PathBuf,
    files: Arc<[PathBuf]>,
    kept: PathBuf,
    status: Status,
}

impl Maps {
    /// `trust`: whom to believe; `files`: where maps are put; `kept`: our own copy.
    pub fn new(trust: PathBuf, files: Vec<PathBuf>, state: &Path, status: Status) -> Self {
        let maps = Self {
            state: Arc::default(),
            trust,
            files: files.into(),
            kept: state.join("map.json"),
            status,
        };
        maps.look();
        maps
    }

    /// The map, while it holds.
    ///
    /// # Errors
    /// Without one.
    pub fn map(&self) -> Result<Arc<Map>, NoMap> {
        let state = self.lock();
        let (Some(held), Some(map)) = (&state.held, &state.map) else {
            let why = match state.told.as_str() {
                "" => "no Gate17 network is set up on this host",
                problem => problem,
            };
            return Err(NoMap { text: why.to_owned() });
        };
        match held.map(Timestamp::now()) {
            Ok(_) => Ok(Arc::clone(map)),
            Err(refused) => Err(NoMap {
                text: refused.to_string(),
            }),
        }
    }

    /// The map, whatever its age: by it a newer one can be fetched.
    pub fn latest(&self) -> Option<Arc<Map>> {
        self.lock().map.clone()
    }

    /// The envelope of the map, while that holds: for others.
    pub fn envelope(&self) -> Option<Arc<[u8]>> {
        let state = self.lock();
        let held = state.held.as_ref()?;
        held.map(Timestamp::now()).ok().flatten()?;
        state.envelope.clone()
    }

    /// Looks for new files for ever.
    pub async fn follow(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look();
        }
    }

    /// For those who want to know.
    pub fn told(&self) -> MapState {
        let usable = self.map();
        let state = self.lock();
        let Some(map) = &state.map else {
            return MapState {
                problem: state.told.clone(),
                ..MapState::default()
            };
        };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        MapState {
            network: map.network.clone(),
            serial: map.serial,
            issued: Some(SystemTime::from(map.issued).into()),
            expires: Some(SystemTime::from(map.expires).into()),
            nodes: count(map.nodes.len()),
            exits: count(map.nodes.iter().filter(|node| !node.exit.is_empty()).count()),
            source: state.source.clone(),
            fetched: state.fetched.map(Into::into),
            problem: usable.err().map_or_else(|| state.told.clone(), |none| none.text),
        }
    }

    /// Whether this host knows whom to believe.
    pub fn is_set_up(&self) -> bool {
        self.lock().held.is_some()
    }

    /// An envelope that was fetched.
    ///
    /// # Errors
    /// Where it is refused; the map that was there stays.
    pub fn offer(&self, envelope: &[u8], source: &str) -> Result<(), Refused> {
        let mut state = self.lock();
        self.take(&mut state, envelope, source)
    }

    /// What is wrong with a source; None: nothing any more. Raised when it changes.
    pub fn report(&self, source: &str, problem: Option<String>) {
        self.note(&mut self.lock(), source, problem);
    }

    fn note(&self, state: &mut State, source: &str, problem: Option<String>) {
        match problem {
            Some(problem) => state.problems.insert(source.to_owned(), problem),
            None => state.problems.remove(source),
        };
        let lines = state
            .problems
            .iter()
            .map(|(source, problem)| format!("{source}: {problem}"));
        let told = lines.collect::<Vec<_>>().join("; ");
        if told.is_empty() {
            self.status.clear(PROBLEM);
        } else if told != state.told {
            self.status.raise(PROBLEM, told.clone());
        }
        state.told = told;
    }

    /// A network that is not set up is no problem: nothing is to be carried then. A file that is refused hides no other.
    pub fn look(&self) {
        let mut state = self.lock();
        if let Some(changed) = state.watched.look(&self.trust) {
            let problem = changed
                .map_err(|error| error.to_string())
                .and_then(|changed| self.believe(&mut state, changed.content))
                .err();
            self.note(&mut state, &self.trust.display().to_string(), problem);
        }
        if state.held.is_none() {
            return;
        }
        for file in &*self.files {
            if let Some(changed) = state.watched.look(file) {
                let problem = changed
                    .map_err(|error| error.to_string())
                    .and_then(|changed| self.read(&mut state, file, changed))
                    .err();
                self.note(&mut state, &file.display().to_string(), problem);
            }
        }
        let over = state
            .held
            .as_ref()
            .and_then(|held| held.map(Timestamp::now()).err());
        self.note(
            &mut state,
            "the map that is kept",
            over.map(|over| over.to_string()),
        );
    }

    /// Whom to believe, for the first time or from now on.
    fn believe(&self, state: &mut State, content: Option<Vec<u8>>) -> Result<(), String> {
        // one that is taken away changes nothing: it may be about to be replaced
        let Some(text) = content else { return Ok(()) };
        let trust: Trust = serde_json::from_slice(&text)
            .map_err(|error| format!("{error}; have the network's operator give it anew"))?;
        let (held, put) = self.restored(trust);
        state.show(&held);
        state.held = Some(held);
        state.source = self.kept.display().to_string();
        state.fetched = put;
        // what was refused before may be right now
        for file in &*self.files {
            state.watched.forget(file);
        }
        Ok(())
    }

    /// With the map of before, and when that was kept.
    fn restored(&self, trust: Trust) -> (Held, Option<SystemTime>) {
        let kept = match fs::read(&self.kept) {
            Ok(kept) => kept,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!(%error, file = %self.kept.display(), "the map of before cannot be read");
                }
                return (Held::new(trust), None);
            }
        };
        match Held::restore(trust.clone(), &kept) {
            Ok(held) => {
                let put = fs::metadata(&self.kept).and_then(|file| file.modified());
                (held, put.ok())
            }
            Err(refused) => {
                tracing::warn!(%refused, file = %self.kept.display(), "the map of before is not used");
                (Held::new(trust), None)
            }
        }
    }

    fn read(&self, state: &mut State, file: &Path, changed: Changed) -> Result<(), String> {
        let Some(envelope) = changed.content else {
            return Ok(());
        };
        let fetched = state.fetched;
        match self.take(state, &envelope, &file.display().to_string()) {
            Ok(()) => Ok(()),
            // it was there before a newer one came from elsewhere: nobody offers an old one
            Err(Refused::Rollback { .. }) if changed.put.is_some() && changed.put <= fetched => Ok(()),
            Err(refused) => {
                if matches!(refused, Refused::Expired(_) | Refused::NotYet(_)) {
                    // as the clock has it: that may be wrong, and be set
                    state.watched.forget(file);
                }
                Err(refused.to_string())
            }
        }
    }

    fn take(&self, state: &mut State, envelope: &[u8], source: &str) -> Result<(), Refused> {
        let Some(held) = &mut state.held else {
            return Ok(());
        };
        if held.accept(envelope, Timestamp::now())? == Accepted::New {
            state.map = held.latest().cloned().map(Arc::new);
            state.envelope = held.envelope().map(Arc::from);
            source.clone_into(&mut state.source);
            state.fetched = Some(SystemTime::now());
            if let Err(error) = daemon::files::replace(&self.kept, envelope) {
                tracing::warn!(%error, "the map is not kept: after a restart an older one could be offered");
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing in here is left half done by a panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn show(&mut self, held: &Held) {
        self.map = held.latest().cloned().map(Arc::new);
        self.envelope = held.envelope().map(Arc::from);
    }
}

#[cfg(test)]
mod tests;
