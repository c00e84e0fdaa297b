//! What outlives the process: the cache, who was told what, the secret behind cookies. All of it may be missing.

use std::{fs, path::Path};

use dns_core::cache::Cache;
use prost::Message as _;
use proto::interceptor::v1::{Told, ToldName};

use crate::{judge::Judge, server};

const CACHE: &str = "cache";
const NAMES: &str = "names";
const SECRET: &str = "secret";

/// Behind the cookies: kept, so that clients need no new ones after a restart.
pub fn secret(state: &Path) -> [u8; 16] {
    let path = state.join(SECRET);
    if let Some(secret) = fs::read(&path).ok().and_then(|octets| octets.try_into().ok()) {
        return secret;
    }
    let secret: [u8; 16] = rand::random();
    if let Err(error) = daemon::files::replace(&path, &secret) {
        tracing::warn!(%error, path = %path.display(), "clients need new cookies after a restart");
    }
    secret
}

/// What cannot be read is not there.
pub fn load_cache(cache: &Cache, state: &Path) {
    let path = state.join(CACHE);
    let Ok(file) = fs::read(&path) else { return };
    match cache.load(&file, server::now(), server::wall()) {
        Ok(loaded) => tracing::info!(
            fresh = loaded.fresh,
            stale = loaded.stale,
            "cache kept from before"
        ),
        Err(error) => tracing::warn!(%error, path = %path.display(), "the kept cache is not used"),
    }
}

/// What cannot be read is not there.
pub fn load_names(state: &Path) -> Vec<ToldName> {
    let file = fs::read(state.join(NAMES)).unwrap_or_default();
    Told::decode(&*file).map(|told| told.names).unwrap_or_default()
}

/// Writes all of it.
pub fn save<L>(judge: &Judge<L>, state: &Path) {
    let names = Told {
        sequence: 0,
        names: judge.names.known(),
    };
    let cache = judge.cache.save(server::now(), server::wall());
    for (file, content) in [(CACHE, cache), (NAMES, names.encode_to_vec())] {
        let path = state.join(file);
        if let Err(error) = daemon::files::replace(&path, &content) {
            tracing::warn!(%error, path = %path.display(), "a restart begins without it");
        }
    }
}
