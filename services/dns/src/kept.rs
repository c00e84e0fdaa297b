//! What outlives the process: the cache, who was told what, the secret behind cookies. All of it may be missing.
//!
//! Invariant: a life goes on while nobody serves. Within one boot of the host it is counted by the clock since that boot,
//! which nobody sets; over another boot only the cache lives on, by the wall clock. A file is taken away as it is read, and
//! written anew: one that a service ends by cannot end the next one too.

mod seal;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dns_core::cache::Cache;
use prost::Message as _;
use proto::interceptor::v1::{Told, ToldName};
use tokio::sync::Notify;

use crate::{judge::Judge, names::Names, server};
use seal::{Moment, Sealed};

const CACHE: &str = "cache";
const NAMES: &str = "names";
const SECRET: &str = "secret";

/// The service's folder. Clones are the same.
#[derive(Clone, Debug)]
pub struct Kept {
    state: PathBuf,
    /// Somebody wants it written without waiting for the time.
    wanted: Arc<Notify>,
}

impl Kept {
    /// Nothing is read yet.
    pub fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            wanted: Arc::default(),
        }
    }

    /// Behind the cookies: kept, so that clients need no new ones after a restart.
    pub fn secret(&self) -> [u8; 16] {
        let path = self.state.join(SECRET);
        if let Some(secret) = fs::read(&path).ok().and_then(|octets| octets.try_into().ok()) {
            return secret;
        }
        let secret: [u8; 16] = rand::random();
        if let Err(error) = daemon::files::replace(&path, &secret) {
            tracing::warn!(%error, path = %path.display(), "clients need new cookies after a restart");
        }
        secret
    }

    /// Puts in what there is. What cannot be read is named and thrown away.
    pub fn load_cache(&self, cache: &Cache) {
        let now = Moment::now();
        let Some(sealed) = self.take(CACHE) else { return };
        // as old as it was when it was written, and what has passed since
        let wall = match sealed.written.passed(&now) {
            Some(passed) => sealed.written.wall + passed,
            None => now.wall,
        };
        match cache.load(&sealed.content, server::now(), wall) {
            Ok(loaded) => tracing::info!(
                fresh = loaded.fresh,
                stale = loaded.stale,
                "cache kept from before"
            ),
            Err(error) => self.useless(CACHE, &error),
        }
        self.write_cache(cache);
    }

    /// The names that hold still, each for as long as it would have held anyway.
    pub fn load_names(&self, names: &Names) {
        self.load_names_at(names, Moment::now());
    }

    fn load_names_at(&self, names: &Names, now: Moment) {
        let Some(sealed) = self.take(NAMES) else { return };
        // another boot has other programs at the same inodes of temporary file systems, and no connection of before
        let Some(passed) = sealed.written.passed(&now) else {
            return;
        };
        match Told::decode(&*sealed.content) {
            Ok(told) => names.remember(holding_still(told.names, passed)),
            Err(error) => self.useless(NAMES, &error),
        }
        self.write_names(names, now);
    }

    /// Writes all of it.
    pub fn save<L>(&self, judge: &Judge<L>) {
        self.write_cache(&judge.cache);
        self.write_names(&judge.names, Moment::now());
    }

    /// What was flushed is not to come back after a crash: it is written soon.
    pub fn save_soon(&self) {
        self.wanted.notify_one();
    }

    /// Returns when somebody wants it written.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    fn write_cache(&self, cache: &Cache) {
        let written = Moment::now();
        let content = cache.save(server::now(), written.wall);
        self.write(CACHE, Sealed { written, content });
    }

    fn write_names(&self, names: &Names, written: Moment) {
        let names = names.known();
        let content = encoded(names);
        self.write(NAMES, Sealed { written, content });
    }

    fn write(&self, name: &str, sealed: Sealed) {
        let path = self.state.join(name);
        if let Err(error) = daemon::files::replace(&path, &sealed.into_octets()) {
            tracing::warn!(%error, path = %path.display(), "a restart begins without it");
        }
    }

    fn take(&self, name: &str) -> Option<Sealed> {
        let path = self.state.join(name);
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                self.useless(name, &error);
                return None;
            }
        };
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "it cannot be taken away");
        }
        Sealed::read(&octets)
            .inspect_err(|error| self.useless(name, error))
            .ok()
    }

    fn useless(&self, name: &str, error: &(dyn std::error::Error + 'static)) {
        let path = self.state.join(name);
        tracing::warn!(error, path = %path.display(), "what was kept cannot be used, and is thrown away");
    }
}

fn encoded(names: Vec<ToldName>) -> Vec<u8> {
    let told = Told {
        names,
        ..Told::default()
    };
    told.encode_to_vec()
}

/// What is over is not there; the rest holds so much less.
fn holding_still(names: Vec<ToldName>, passed: Duration) -> Vec<ToldName> {
    let passed = passed.as_secs() + u64::from(passed.subsec_nanos() > 0);
    let left = |mut name: ToldName| {
        name.seconds = u64::from(name.seconds).checked_sub(passed)?.try_into().ok()?;
        (name.seconds > 0).then_some(name)
    };
    names.into_iter().filter_map(left).collect()
}

#[cfg(test)]
mod tests;
