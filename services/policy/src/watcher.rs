//! Hears of changes in the folder of profiles, by inotify.
//!
//! Only a hint of when and where to look: [`Book`](crate::book::Book) compares the files themselves, and looks from time to
//! time unasked.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

use crate::book::Changed;

#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: Option<RecommendedWatcher>,
    heard: Arc<Heard>,
    /// What is watched, by device and inode: a folder that was replaced is another one.
    watched: Vec<(PathBuf, (u64, u64))>,
}

#[derive(Debug, Default)]
struct Heard {
    changed: Mutex<Changed>,
    more: Notify,
}

impl Watcher {
    pub(crate) fn new() -> (Self, Option<notify::Error>) {
        let heard = Arc::<Heard>::default();
        let hear = Arc::clone(&heard);
        let made = notify::recommended_watcher(move |event| hear.add(event));
        let (inotify, error) = match made {
            Ok(inotify) => (Some(inotify), None),
            Err(error) => (None, Some(error)),
        };
        (
            Self {
                inotify,
                heard,
                watched: Vec::new(),
            },
            error,
        )
    }

    /// Something changed.
    pub(crate) async fn changed(&self) {
        self.heard.more.notified().await;
    }

    /// All that changed since the last time.
    pub(crate) fn take(&self) -> Changed {
        std::mem::take(&mut *self.heard.lock())
    }

    /// Watches `folder`, or the nearest one above it that is there. True: something that was not watched is watched now, so
    /// a change before this moment may have gone unheard.
    pub(crate) fn follow(&mut self, folder: &Path) -> Result<bool, notify::Error> {
        let Some(inotify) = &mut self.inotify else {
            return Ok(false);
        };
        let identity = |path: &Path| {
            fs::metadata(path)
                .ok()
                .map(|metadata| (metadata.dev(), metadata.ino()))
        };
        let existing = folder
            .ancestors()
            .filter_map(|path| Some((path.to_owned(), identity(path)?)));
        // The folder above as well: it is what tells that this one was replaced.
        let wanted: Vec<_> = existing.take(2).collect();
        if wanted == self.watched {
            return Ok(false);
        }
        for (path, _) in std::mem::take(&mut self.watched) {
            // A watch on a folder that is gone is gone too.
            let _ = inotify.unwatch(&path);
        }
        for (path, identity) in wanted {
            inotify.watch(&path, RecursiveMode::NonRecursive)?;
            self.watched.push((path, identity));
        }
        Ok(true)
    }
}

impl Heard {
    fn add(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if event.need_rescan() => *self.lock() = Changed::All,
            Ok(event) if is_change(event.kind) => self.lock().add(event.paths),
            Ok(_) => return,
            Err(_) => *self.lock() = Changed::All,
        }
        self.more.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our own reading is heard as well.
const fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
