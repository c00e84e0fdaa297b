//! The snapshot in force, and what is refused.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use proto::policy::v1::{self, RefusedFile};
use tokio::sync::{mpsc, oneshot, watch};
use verdict::policy::{
    CompileError, CompiledPolicy,
    model::{Clocks, Pause, Snapshot},
};

use crate::{
    change::{Asked, Change, ChangeError, Outcome},
    entry::Refused,
    pause::Asker,
};

/// One snapshot, ready to be sent and to explain.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(crate) wire: v1::Snapshot,
    pub(crate) compiled: CompiledPolicy,
}

impl InForce {
    pub(crate) fn new(snapshot: Snapshot, made: SystemTime) -> Result<Self, CompileError> {
        let wire = v1::Snapshot {
            made: Some(made.into()),
            ..(&snapshot).into()
        };
        Ok(Self {
            wire,
            compiled: CompiledPolicy::new(snapshot)?,
        })
    }
}

/// A clock that was set since the pause was asked for has another name for its end.
fn told(pause: Pause, now: Clocks) -> Option<Pause> {
    let length = pause.until.duration_since(pause.from).ok()?;
    let until = pause.ends(now)?;
    let off = until
        .duration_since(pause.until)
        .unwrap_or_else(|error| error.duration());
    if off < Duration::from_secs(1) {
        return Some(pause);
    }
    Some(Pause {
        from: until.checked_sub(length)?,
        until,
        ..pause
    })
}

/// What the rpcs and the bus read. Clones see the same.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) in_force: watch::Receiver<Arc<InForce>>,
    pub(crate) refused: watch::Receiver<Vec<(PathBuf, Refused)>>,
    /// Changes what is in force.
    pub(crate) pause: Asker,
    /// Changes files.
    pub(crate) changes: mpsc::Sender<Asked>,
}

impl Board {
    /// Asks the keeper to change a file, or to say what would be.
    pub(crate) async fn change(&self, change: Change) -> Result<Outcome, ChangeError> {
        let (done, answer) = oneshot::channel();
        let asked = self.changes.send(Asked { change, done }).await;
        asked.map_err(|_| ChangeError::Stopping)?;
        answer.await.map_err(|_| ChangeError::Stopping)?
    }

    /// The pause that is in force, and holds now; its end by the wall clock as it is set now.
    pub(crate) fn paused(&self) -> Option<Pause> {
        let now = daemon::clock::now();
        let pause = self.in_force.borrow().compiled.paused(now)?;
        told(pause, now)
    }

    pub(crate) fn refused_files(&self) -> Vec<RefusedFile> {
        let refused = self.refused.borrow();
        let file = |(path, refused): &(PathBuf, Refused)| RefusedFile {
            path: path.display().to_string(),
            error: refused.error.clone(),
            since: Some(refused.since.into()),
        };
        refused.iter().map(file).collect()
    }
}
