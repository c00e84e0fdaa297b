//! The map: read from files, verified, kept over restarts. Without one that holds nothing is carried.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use daemon::status::Status;
use gate17_proto::map::{Accepted, Held, Map, Refused, Trust};
use jiff::Timestamp;
use proto::gate17::v1::{Cause, MapState};

use crate::refusal::Refusal;

const PROBLEM: &str = "gate17-map";
/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(2);
/// Longest file that is read.
const LONGEST: u64 = 9 << 20;

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    map: Option<Arc<Map>>,
    source: String,
    fetched: Option<SystemTime>,
    /// Why there is none, or the last one that was offered was refused.
    problem: String,
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
    pub fn map(&self) -> Result<Arc<Map>, Refusal> {
        let state = self.lock();
        let (Some(held), Some(map)) = (&state.held, &state.map) else {
            let why = match state.problem.as_str() {
                "" => "no Gate17 network is set up on this host",
                problem => problem,
            };
            return Err(Refusal::new(Cause::NoPath, why));
        };
        match held.map(Timestamp::now()) {
            Ok(_) => Ok(Arc::clone(map)),
            Err(refused) => Err(Refusal::new(Cause::NoPath, refused.to_string())),
        }
    }

    /// Looks for new ones for ever.
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
                problem: state.problem.clone(),
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
            problem: usable
                .err()
                .map_or_else(|| state.problem.clone(), |refusal| refusal.text),
        }
    }

    /// A network that is not set up is no problem: nothing is to be carried then.
    fn look(&self) {
        let mut state = self.lock();
        let problem = match self.read(&mut state) {
            Ok(()) => String::new(),
            Err(problem) => problem,
        };
        if problem.is_empty() {
            self.status.clear(PROBLEM);
        } else if problem != state.problem {
            self.status.raise(PROBLEM, problem.clone());
        }
        state.problem = problem;
    }

    fn read(&self, state: &mut State) -> Result<(), String> {
        if state.held.is_none() {
            let Some(text) = read(&self.trust)? else {
                return Ok(());
            };
            let trust: Trust = serde_json::from_slice(&text).map_err(|error| {
                format!(
                    "{}: {error}; have the network's operator give it anew",
                    self.trust.display()
                )
            })?;
            state.held = Some(self.restored(trust));
            state.map = state.held.as_ref().and_then(Held::latest).cloned().map(Arc::new);
            state.source = self.kept.display().to_string();
        }
        for file in &*self.files {
            let Some(envelope) = read(file)? else { continue };
            self.take(state, &envelope, file)
                .map_err(|refused| format!("{}: {refused}", file.display()))?;
        }
        Ok(())
    }

    fn restored(&self, trust: Trust) -> Held {
        let kept = fs::read(&self.kept).ok();
        kept.and_then(|envelope| Held::restore(trust.clone(), &envelope).ok())
            .unwrap_or_else(|| Held::new(trust))
    }

    fn take(&self, state: &mut State, envelope: &[u8], file: &Path) -> Result<(), Refused> {
        let Some(held) = &mut state.held else {
            return Ok(());
        };
        if held.envelope() == Some(envelope) {
            return held.map(Timestamp::now()).map(|_| ());
        }
        if held.accept(envelope, Timestamp::now())? == Accepted::New {
            state.map = held.latest().cloned().map(Arc::new);
            state.source = file.display().to_string();
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

/// None where there is no such file.
fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::metadata(path) {
        Ok(file) if file.len() > LONGEST => {
            Err(format!("{}: {} octets are too many", path.display(), file.len()))
        }
        Ok(_) => fs::read(path)
            .map(Some)
            .map_err(|error| format!("{}: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
