//! Rereads the files when something changes, puts what they say in force, keeps it on disk, and says what is wrong.

use std::{
    cell::RefCell,
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use daemon::{
    ready::Watchdog,
    status::{Counter, Status},
    users,
};
use tokio::sync::{mpsc, watch};
use verdict::policy::{
    CompileError,
    model::{Clocks, Pause, Snapshot},
};

use crate::{
    book::{Book, Changed, Folder},
    change::Asked,
    config::Config,
    entry::Refused,
    in_force::{Board, InForce},
    kept::Kept,
    pause::{Asker, Wanted},
    watcher::Watcher,
};

mod changing;

const REFUSED_FILES: &str = "profile-refused";
const LOST: &str = "profiles-lost";
const REFUSED: &str = "policy-refused";
const NOT_KEPT: &str = "policy-not-kept";
const DAMAGED: &str = "policy-kept-damaged";
const UNWATCHED: &str = "profiles-not-watched";

/// The clock may be set: a rule that expires in a year is looked at once a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Keeper {
    /// Lent to the thread that reads files.
    book: Option<Book>,
    config: Config,
    kept: Kept,
    /// Version that is on disk.
    stored: u64,
    current: Snapshot,
    in_force: watch::Sender<Arc<InForce>>,
    refused: watch::Sender<Vec<(PathBuf, Refused)>>,
    expiry: Option<SystemTime>,
    wanted: mpsc::Receiver<Wanted>,
    asked: mpsc::Receiver<Asked>,
    status: Status,
    counters: Counters,
}

/// What ends a wait, beside time and files.
#[derive(Debug)]
enum Request {
    Pause(Wanted),
    Change(Box<Asked>),
}

#[derive(Debug)]
struct Counters {
    files: Counter,
    profiles: Counter,
    refused: Counter,
    scans: Counter,
    snapshots: Counter,
}

impl Keeper {
    /// Puts in force what was kept, or the shipped defaults; [`Self::scan`] follows.
    pub(crate) fn new(
        folder: PathBuf,
        config: Config,
        kept: Kept,
        status: Status,
    ) -> anyhow::Result<(Self, Board)> {
        let last = kept.load().unwrap_or_else(|error| {
            status.raise(
                DAMAGED,
                format!("{error:#}; broken profiles have no last good content until it is replaced"),
            );
            None
        });
        let book = Book::new(folder, last.as_ref())?;
        let stored = last.as_ref().map_or(0, |last| last.version);
        // A first snapshot is one as well: whoever follows must tell it from having none.
        let first = || {
            Ok::<_, verdict::policy::file::FileError>(Snapshot {
                version: next(0),
                ..verdict::policy::shipped()?
            })
        };
        let current = last.map_or_else(first, Ok)?;
        let initial =
            InForce::new(current.clone(), SystemTime::now()).context("compile the policy to begin with")?;
        // What expired while nobody ran counts as expiring now: whoever follows decides anew.
        let expiry = initial.compiled.next_expiry(SystemTime::UNIX_EPOCH.into());
        let (in_force, in_force_out) = watch::channel(Arc::new(initial));
        let (asker, wanted) = mpsc::channel(8);
        let (changes, asked) = mpsc::channel(8);
        let (refused, refused_out) = watch::channel(Vec::new());
        status.set_policy_version(current.version);
        let counters = Counters {
            files: status.counter("profile_files_now"),
            profiles: status.counter("profiles_now"),
            refused: status.counter("profile_files_refused_now"),
            scans: status.counter("scans"),
            snapshots: status.counter("snapshots"),
        };
        let keeper = Self {
            book: Some(book),
            config,
            kept,
            stored,
            current,
            in_force,
            refused,
            expiry,
            wanted,
            asked,
            status,
            counters,
        };
        Ok((
            keeper,
            Board {
                in_force: in_force_out,
                refused: refused_out,
                pause: Asker(asker),
                changes,
            },
        ))
    }

    /// For ever: waits for changes, expiries and the time to look unasked.
    pub(crate) async fn run(mut self, mut watcher: Watcher) -> anyhow::Result<()> {
        let mut watchdog = Watchdog::from_environment();
        loop {
            let (mut changed, request) = self.wait(&watcher, &mut watchdog).await;
            // What was not heard since the folder was not watched, is looked for in full.
            if self.watch(&mut watcher) {
                changed = Changed::All;
            }
            // whoever asked may have gone
            match request {
                None => self.scan(changed).await?,
                Some(Request::Pause(wanted)) => {
                    let answer = self.pause(wanted.pause, daemon::clock::now());
                    self.scan(changed).await?;
                    let _ = wanted.done.send(answer);
                }
                Some(Request::Change(asked)) => {
                    self.scan(changed).await?;
                    let answer = self.change(asked.change).await?;
                    let _ = asked.done.send(answer);
                }
            }
        }
    }

    /// Begins a pause or ends it, and tells whether one was on. Where that cannot be put in force, nothing is changed.
    fn pause(&mut self, pause: Option<Pause>, now: Clocks) -> Result<bool, CompileError> {
        let was_paused = self.current.pause.is_some_and(|pause| pause.holds(now));
        let content = Snapshot {
            pause,
            ..self.current.clone()
        };
        self.put_in_force(content, now.wall).map(|()| was_paused)
    }

    /// Watches the folder; true where that is new.
    pub(crate) fn watch(&self, watcher: &mut Watcher) -> bool {
        let Some(book) = &self.book else { return false };
        match watcher.follow(book.folder()) {
            Ok(new) => {
                self.status.clear(UNWATCHED);
                new
            }
            Err(error) => {
                let every = self.config.rescan().as_secs();
                let text = format!(
                    "changes of {} take effect only after {every} s: {error}; raise fs.inotify.max_user_watches",
                    book.folder().display()
                );
                self.status.raise(UNWATCHED, text);
                false
            }
        }
    }

    async fn wait(&mut self, watcher: &Watcher, watchdog: &mut Watchdog) -> (Changed, Option<Request>) {
        let rescan = self.config.rescan();
        let now = daemon::clock::now();
        let expiry = self
            .expiry
            .map(|expiry| expiry.duration_since(now.wall).unwrap_or_default());
        // it ends in time also where the clock was set
        let pause = self.current.pause.and_then(|pause| pause.rest(now));
        let wait = [expiry, pause].into_iter().flatten().min().unwrap_or(rescan);
        let look = tokio::time::sleep(wait.min(LONGEST_WAIT).min(rescan));
        tokio::pin!(look);
        loop {
            watchdog.feed();
            tokio::select! {
                () = watcher.changed() => {
                    tokio::time::sleep(self.config.settle()).await;
                    break;
                }
                () = &mut look => break,
                Some(wanted) = self.wanted.recv() => {
                    return (watcher.take(), Some(Request::Pause(wanted)));
                }
                Some(asked) = self.asked.recv() => {
                    return (watcher.take(), Some(Request::Change(Box::new(asked))));
                }
                () = tokio::time::sleep(watchdog.pause().unwrap_or(LONGEST_WAIT)) => {}
            }
        }
        (watcher.take(), None)
    }

    /// Reads what changed, and puts it in force.
    pub(crate) async fn scan(&mut self, changed: Changed) -> anyhow::Result<()> {
        let Some(mut book) = self.book.take() else {
            return Ok(());
        };
        let (clocks, version) = (daemon::clock::now(), self.current.version);
        let now = clocks.wall;
        let read = tokio::task::spawn_blocking(move || {
            let known = RefCell::new(HashMap::new());
            let uid = |name: &str| {
                *known
                    .borrow_mut()
                    .entry(name.to_owned())
                    .or_insert_with(|| users::uid(name))
            };
            let folder = book.scan(&changed, now, &uid);
            let content = book.snapshot(version);
            (book, folder, content)
        });
        let (book, folder, content) = read.await.context("read the profiles")?;
        self.tell(&book, folder);
        self.book = Some(book);
        let pause = self.current.pause.filter(|pause| pause.holds(clocks));
        let content = Snapshot { pause, ..content };
        let expired = self.expiry.is_some_and(|expiry| expiry <= now);
        if content != self.current || expired {
            // told as a problem, until a later scan finds what can be put in force
            let _ = self.put_in_force(content, now);
        }
        self.expiry = self.in_force.borrow().compiled.next_expiry(clocks);
        self.store().await
    }

    /// As the next version; with an error, what was in force stays, and the problem is raised.
    fn put_in_force(&mut self, content: Snapshot, now: SystemTime) -> Result<(), CompileError> {
        let snapshot = Snapshot {
            version: next(self.current.version),
            ..content
        };
        let compiled = match InForce::new(snapshot.clone(), now) {
            Ok(compiled) => compiled,
            Err(error) => {
                let version = self.current.version;
                self.status.raise(
                    REFUSED,
                    format!("{error}; version {version} stays in force as a whole"),
                );
                return Err(error);
            }
        };
        self.status.clear(REFUSED);
        let (version, profiles) = (snapshot.version, snapshot.profiles.len());
        tracing::info!(version, profiles, "policy in force");
        self.current = snapshot;
        self.in_force.send_replace(Arc::new(compiled));
        self.status.set_policy_version(version);
        self.counters.snapshots.add(1);
        Ok(())
    }

    fn tell(&self, book: &Book, folder: Folder) {
        match folder {
            Folder::Read | Folder::Absent => self.status.clear(LOST),
            Folder::Lost(text) => self.status.raise(LOST, text),
        }
        let refused = book.refused();
        match refused.as_slice() {
            [] => self.status.clear(REFUSED_FILES),
            [(_, one)] => self.status.raise(REFUSED_FILES, one.error.clone()),
            [(_, first), others @ ..] => {
                self.status.raise(
                    REFUSED_FILES,
                    format!("{}; and {} more files", first.error, others.len()),
                );
            }
        }
        let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
        self.counters.scans.add(1);
        self.counters.files.set(count(book.files()));
        self.counters.refused.set(count(refused.len()));
        self.counters
            .profiles
            .set(count(self.in_force.borrow().compiled.len()));
        self.refused.send_if_modified(|old| {
            let changed = *old != refused;
            *old = refused;
            changed
        });
    }

    /// Again at every turn until it works: a full disk is emptied some day.
    async fn store(&mut self) -> anyhow::Result<()> {
        self.counters
            .profiles
            .set(u64::try_from(self.current.profiles.len()).unwrap_or(u64::MAX));
        if self.stored == self.current.version {
            return Ok(());
        }
        let (kept, in_force) = (self.kept.clone(), Arc::clone(&self.in_force.borrow()));
        let stored = tokio::task::spawn_blocking(move || kept.store(&in_force.wire)).await?;
        match stored {
            Ok(()) => {
                self.stored = self.current.version;
                self.status.clear(NOT_KEPT);
                self.status.clear(DAMAGED);
            }
            Err(error) => {
                let path = self.kept.path().display();
                let text = format!(
                    "a broken profile would have no last good content after a restart: cannot write {path}: {error}; make room there"
                );
                self.status.raise(NOT_KEPT, text);
            }
        }
        Ok(())
    }
}

/// Grows also where the last version could not be kept: it is at least the time, in seconds since 1970.
fn next(version: u64) -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    version.saturating_add(1).max(now.as_secs())
}

#[cfg(test)]
mod tests;
