//! Who changed what through the API: the last changes, in memory and in a file.
//!
//! The journal (target `audit`) has a line for each; what stood in a profile before and after is here alone, for whom may read
//! profiles anyway.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::v1::AuditEntry;
use proto::policy::v1::ChangeReply;
use serde::{Deserialize, Serialize};

const FILE: &str = "audit.jsonl";
/// Entries that are kept.
pub const KEPT: usize = 1000;
/// Octets of a difference that are kept.
const LONGEST: usize = 16 << 10;

/// What a method says of a change while it makes it.
#[derive(Debug, Default)]
pub struct Note(Mutex<Noted>);

#[derive(Clone, Debug, Default)]
struct Noted {
    object: String,
    is_try: bool,
    before: String,
    after: String,
    diff: String,
}

impl Note {
    /// What is changed; `is_try`: it is not.
    pub fn about(&self, object: &str, is_try: bool) {
        let mut noted = self.lock();
        object.clone_into(&mut noted.object);
        noted.is_try = is_try;
    }

    /// How a file was changed.
    pub fn changed(&self, reply: &ChangeReply) {
        let mut noted = self.lock();
        if let Some(after) = &reply.after {
            after.id.clone_into(&mut noted.object);
            after.revision.clone_into(&mut noted.after);
        }
        if let Some(before) = &reply.before {
            before.revision.clone_into(&mut noted.before);
        }
        let mut end = reply.diff.len().min(LONGEST);
        while !reply.diff.is_char_boundary(end) {
            end -= 1;
        }
        noted.diff = reply.diff.get(..end).unwrap_or_default().to_owned();
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asked.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// User.
    pub uid: Option<u32>,
    /// Process.
    pub pid: Option<u32>,
    /// Its program.
    pub executable: String,
    /// Name of the token that it showed.
    pub token: String,
}

/// See the module's head. Clones are the same.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    /// Lines of the file; held while it is written.
    lines: Mutex<usize>,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Kept>,
    last: u64,
}

/// A line of the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    id: u64,
    /// Milliseconds since 1970.
    time: u64,
    uid: Option<u32>,
    pid: Option<u32>,
    executable: String,
    token: String,
    method: String,
    object: String,
    before: String,
    after: String,
    diff: String,
    refused: String,
}

impl Audit {
    /// With the entries of earlier runs. What cannot be read of them is passed over: they are no one's permission.
    pub fn load(folder: &Path) -> Self {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut entries: VecDeque<Kept> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let lines = text.lines().count();
        entries.drain(..entries.len().saturating_sub(KEPT));
        let last = entries.back().map_or(0, |entry| entry.id);
        Self(Arc::new(Inner {
            path,
            state: Mutex::new(State { entries, last }),
            lines: Mutex::new(lines),
        }))
    }

    /// Keeps what was done, or why it was not (`refused`).
    pub async fn record(&self, who: Who, method: &str, note: &Note, refused: Option<&str>) {
        let noted = note.lock().clone();
        if noted.is_try {
            return;
        }
        let mut entry = Kept {
            id: 0,
            time: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            uid: who.uid,
            pid: who.pid,
            executable: who.executable,
            token: who.token,
            method: method.to_owned(),
            object: noted.object,
            before: noted.before,
            after: noted.after,
            diff: noted.diff,
            refused: refused.unwrap_or_default().to_owned(),
        };
        {
            let mut state = self.lock();
            state.last += 1;
            entry.id = state.last;
            state.entries.push_back(entry.clone());
            if state.entries.len() > KEPT {
                state.entries.pop_front();
            }
        }
        match refused {
            None => {
                let (before, after) = (&entry.before, &entry.after);
                tracing::info!(target: "audit", before, after, "{method} {}: done", entry.object);
            }
            Some(why) => tracing::info!(target: "audit", "{method} {}: not done: {why}", entry.object),
        }
        let audit = self.clone();
        let written = tokio::task::spawn_blocking(move || audit.write(&entry)).await;
        if let Ok(Err(error)) = written {
            let path = self.0.path.display();
            tracing::warn!(%error, "{path} cannot be written: after a restart it is not known who changed what");
        }
    }

    fn write(&self, entry: &Kept) -> io::Result<()> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if *lines >= 2 * KEPT {
            // it holds what was kept, this one among it
            let entries: Vec<Kept> = self.lock().entries.iter().cloned().collect();
            let text: Vec<String> = entries.iter().map(line).collect::<Result<_, _>>()?;
            daemon::files::replace(&self.0.path, text.concat().as_bytes())?;
            *lines = entries.len();
            return Ok(());
        }
        if let Some(folder) = self.0.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::options().append(true).create(true).open(&self.0.path)?;
        file.write_all(line(entry)?.as_bytes())?;
        *lines += 1;
        file.sync_data()
    }

    /// The last ones before `before` (0: of all), latest first.
    pub fn list(&self, most: usize, before: u64) -> Vec<AuditEntry> {
        let state = self.lock();
        let entries = state.entries.iter().rev();
        entries
            .filter(|entry| before == 0 || entry.id < before)
            .take(most)
            .map(told)
            .collect()
    }

    /// The number of the last one.
    pub fn last(&self) -> u64 {
        self.lock().last
    }

    /// Those behind `id`, in order.
    pub fn after(&self, id: u64) -> Vec<AuditEntry> {
        let state = self.lock();
        let behind = state.entries.iter().filter(|entry| entry.id > id);
        behind.map(told).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(entry: &Kept) -> io::Result<String> {
    let mut text = serde_json::to_string(entry)?;
    text.push('\n');
    Ok(text)
}

fn told(kept: &Kept) -> AuditEntry {
    let kept = kept.clone();
    AuditEntry {
        id: kept.id,
        time: UNIX_EPOCH
            .checked_add(Duration::from_millis(kept.time))
            .map(Into::into),
        uid: kept.uid,
        pid: kept.pid,
        executable: kept.executable,
        token: kept.token,
        method: kept.method,
        object: kept.object,
        before: kept.before,
        after: kept.after,
        diff: kept.diff,
        refused: kept.refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: &str) -> Note {
        let note = Note::default();
        note.about(id, false);
        note
    }

    #[tokio::test]
    async fn changes_are_kept_over_a_restart_and_tries_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::load(folder.path());
        let who = Who {
            uid: Some(7),
            ..Who::default()
        };
        audit.record(who.clone(), "/a", &change("one"), None).await;
        let tried = Note::default();
        tried.about("two", true);
        audit.record(who.clone(), "/a", &tried, None).await;
        audit.record(who, "/b", &change("three"), Some("no")).await;
        for audit in [audit, Audit::load(folder.path())] {
            let listed = audit.list(10, 0);
            let said: Vec<_> = listed
                .iter()
                .map(|entry| (entry.id, entry.object.as_str(), entry.refused.as_str()))
                .collect();
            assert_eq!(said, [(2, "three", "no"), (1, "one", "")]);
            assert_eq!(audit.list(10, 2).len(), 1);
        }
    }

    #[tokio::test]
    async fn the_file_does_not_grow_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let old = "{\"id\": 5}\nnonsense\n".repeat(KEPT);
        fs::write(&path, old).unwrap();
        let audit = Audit::load(folder.path());
        audit.record(Who::default(), "/a", &change("x"), None).await;
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), KEPT);
        assert_eq!(audit.list(1, 0)[0].id, 6);
    }
}
