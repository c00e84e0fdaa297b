//! Tokens: for programs that are no member of group `portmaster`, or shall do more. Kept as hashes; shown once.
//!
//! Invariant: what was said to be revoked is revoked, also after a crash: the file is on the disk before anybody is told.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::v1::{Scope, Token};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// By which they are known in files and logs of others.
const PREFIX: &str = "pm_";
const FILE: &str = "tokens.json";
/// More than anybody has a use for.
const MOST: usize = 1000;
/// `last_used` is written down no more often.
const WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its name.
    #[error("{0:?} is no name for a token: give 1 to 64 letters, digits, `-`, `_`, `.`")]
    Name(String),
    /// There is one.
    #[error("there is a token {0:?} already: revoke it, or choose another name")]
    Exists(String),
    /// There is none.
    #[error("there is no token {0:?}: `portmaster token list` names them")]
    Unknown(String),
    /// Nothing is what it may do.
    #[error("scope is missing: read, decide or admin")]
    Scope,
    /// Too long.
    #[error("a time of {0} seconds is beyond what can be kept; give 0 for a token that does not expire")]
    Ttl(u64),
    /// Too many.
    #[error("there are {MOST} tokens already: revoke some")]
    TooMany,
    /// The file.
    #[error("{} cannot be written: {error}; nothing was changed", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    name: String,
    scope: String,
    /// SHA-256 of the secret, hexadecimal.
    sha256: String,
    /// Seconds since 1970.
    created: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_used: Option<u64>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    state: Mutex<State>,
    /// Held by who writes, and taken before `state`: the disk is waited for without holding up who looks.
    disk: Mutex<()>,
}

#[derive(Debug)]
struct State {
    kept: Vec<Kept>,
    written: SystemTime,
}

impl Tokens {
    /// Those of the last run.
    ///
    /// # Errors
    /// Where there is a file that cannot be read: a gateway that forgets which tokens are revoked is none.
    pub fn load(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let kept = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                anyhow::anyhow!(
                    "{}: {error}; repair it, or remove it and make new tokens",
                    path.display()
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(anyhow::anyhow!("read {}: {error}", path.display())),
        };
        let state = State {
            kept,
            written: SystemTime::now(),
        };
        Ok(Self {
            path,
            state: Mutex::new(state),
            disk: Mutex::default(),
        })
    }

    /// A new one, and its secret.
    ///
    /// # Errors
    /// Where it cannot be, or cannot be kept.
    pub fn create(
        &self,
        name: &str,
        scope: Scope,
        ttl: u64,
        now: SystemTime,
    ) -> Result<(Token, String), Error> {
        let fits = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
        if !(1..=64).contains(&name.len()) || !name.chars().all(fits) {
            return Err(Error::Name(name.to_owned()));
        }
        let scope_text = text(scope).ok_or(Error::Scope)?;
        let created = seconds(now);
        let expires = match ttl {
            0 => None,
            ttl => Some(
                created
                    .checked_add(ttl)
                    .filter(|end| *end < 1 << 40)
                    .ok_or(Error::Ttl(ttl))?,
            ),
        };
        let _disk = self.disk();
        // what has expired is no obstacle
        let mut kept: Vec<Kept> = self
            .lock()
            .kept
            .iter()
            .filter(|kept| kept.holds(now))
            .cloned()
            .collect();
        if kept.iter().any(|kept| kept.name == name) {
            return Err(Error::Exists(name.to_owned()));
        }
        if kept.len() >= MOST {
            return Err(Error::TooMany);
        }
        let secret = format!(
            "{PREFIX}{}",
            BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
        );
        kept.push(Kept {
            name: name.to_owned(),
            scope: scope_text.to_owned(),
            sha256: hash(&secret),
            created,
            expires,
            last_used: None,
        });
        let token = kept.last().map(Kept::told).unwrap_or_default();
        self.write(kept)?;
        Ok((token, secret))
    }

    /// Those that hold.
    pub fn list(&self, now: SystemTime) -> Vec<Token> {
        let state = self.lock();
        state
            .kept
            .iter()
            .filter(|kept| kept.holds(now))
            .map(Kept::told)
            .collect()
    }

    /// It holds no more.
    ///
    /// # Errors
    /// Where there is none, or the change cannot be kept.
    pub fn revoke(&self, name: &str) -> Result<(), Error> {
        let _disk = self.disk();
        let mut kept = self.lock().kept.clone();
        let before = kept.len();
        kept.retain(|kept| kept.name != name);
        if kept.len() == before {
            return Err(Error::Unknown(name.to_owned()));
        }
        self.write(kept)
    }

    /// Name and scope of the one with this secret.
    pub fn find(&self, secret: &str, now: SystemTime) -> Option<(String, Scope)> {
        // the secret is as long as its hash is strong: comparing hashes tells nothing of it by its time
        let hash = hash(secret);
        let mut state = self.lock();
        let kept = state.kept.iter_mut().find(|kept| kept.sha256 == hash)?;
        if !kept.holds(now) {
            return None;
        }
        kept.last_used = Some(seconds(now));
        Some((kept.name.clone(), scope(&kept.scope)))
    }

    /// Whether it is time to write down when tokens were used last: then it counts as done.
    pub fn is_due(&self, now: SystemTime) -> bool {
        let mut state = self.lock();
        let late = now.duration_since(state.written).unwrap_or(WRITTEN_EVERY) >= WRITTEN_EVERY;
        if late {
            state.written = now;
        }
        late
    }

    /// Writes down when tokens were used last. Waits for the disk.
    pub fn write_uses(&self) {
        let _disk = self.disk();
        let kept = self.lock().kept.clone();
        if let Err(error) = self.store(&kept) {
            tracing::debug!(%error, "the last use of a token is not written down");
        }
    }

    /// On the disk, then in force.
    fn write(&self, kept: Vec<Kept>) -> Result<(), Error> {
        self.store(&kept)?;
        self.lock().kept = kept;
        Ok(())
    }

    fn store(&self, kept: &[Kept]) -> Result<(), Error> {
        let failed = |error: io::Error| Error::File {
            path: self.path.clone(),
            error,
        };
        let text = serde_json::to_vec_pretty(kept).map_err(|error| failed(error.into()))?;
        daemon::files::replace(&self.path, &text).map_err(failed)
    }

    fn disk(&self) -> MutexGuard<'_, ()> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn holds(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|end| seconds(now) < end)
    }

    fn told(&self) -> Token {
        let time = |seconds: u64| prost_types::Timestamp {
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            nanos: 0,
        };
        Token {
            name: self.name.clone(),
            scope: scope(&self.scope).into(),
            created: Some(time(self.created)),
            expires: self.expires.map(time),
            last_used: self.last_used.map(time),
        }
    }
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes())
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const fn text(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Read => Some("read"),
        Scope::Decide => Some("decide"),
        Scope::Admin => Some("admin"),
        Scope::Unspecified => None,
    }
}

fn scope(text: &str) -> Scope {
    match text {
        "read" => Scope::Read,
        "decide" => Scope::Decide,
        "admin" => Scope::Admin,
        // of a later version: nothing that we know
        _ => Scope::Unspecified,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_it_is_revoked_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let tokens = Tokens::load(folder.path()).unwrap();
        let (told, secret) = tokens.create("bar", Scope::Read, 0, now).unwrap();
        assert_eq!((told.name.as_str(), told.scope()), ("bar", Scope::Read));
        assert!(secret.len() > 40);
        let on_disk = fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(!on_disk.contains(&secret[3..]), "only its hash is kept");

        let tokens = Tokens::load(folder.path()).unwrap();
        assert_eq!(tokens.find(&secret, now), Some(("bar".to_owned(), Scope::Read)));
        assert_eq!(tokens.find("pm_x", now), None);
        assert!(tokens.list(now)[0].last_used.is_some());
        tokens.revoke("bar").unwrap();
        assert_eq!(Tokens::load(folder.path()).unwrap().find(&secret, now), None);
        let said = tokens.revoke("bar").unwrap_err().to_string();
        assert!(said.contains("no token \"bar\""), "{said}");
    }

    #[test]
    fn a_token_expires() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, now) = (Tokens::load(folder.path()).unwrap(), SystemTime::now());
        let (_, secret) = tokens.create("a", Scope::Admin, 60, now).unwrap();
        assert!(tokens.find(&secret, now + Duration::from_secs(58)).is_some());
        let late = now + Duration::from_secs(60);
        assert!(tokens.find(&secret, late).is_none() && tokens.list(late).is_empty());
        tokens.create("a", Scope::Admin, 60, late).unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, now) = (Tokens::load(folder.path()).unwrap(), SystemTime::now());
        let refused = |name: &str, scope, ttl| tokens.create(name, scope, ttl, now).unwrap_err().to_string();
        assert!(refused("", Scope::Read, 0).contains("no name"));
        assert!(refused("a b", Scope::Read, 0).contains("no name"));
        assert!(refused("a", Scope::Unspecified, 0).contains("read, decide or admin"));
        assert!(refused("a", Scope::Read, u64::MAX).contains("does not expire"));
        tokens.create("a", Scope::Read, 0, now).unwrap();
        assert!(refused("a", Scope::Read, 0).contains("already"));
        fs::write(folder.path().join(FILE), "[{").unwrap();
        let said = Tokens::load(folder.path()).unwrap_err().to_string();
        assert!(said.contains("tokens.json") && said.contains("repair"), "{said}");
    }
}
