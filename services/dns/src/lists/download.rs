//! Lists that are published elsewhere: looked after, each by its own clock.
//!
//! Invariant: a file in the service's folder is replaced in one step, and only by a download that is whole, is what its
//! checksum and signature say, is mostly names, and has not shrunk beyond what the owner permits.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use daemon::status::Status;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Source,
    adopt::{self, Offer},
    http::{Client, Conditions, Got, Resolve},
    kept_name,
    source::{Sum, is_sum, parse_url},
};
use crate::server;

/// Of the service's health: lists that could not be downloaded.
pub(super) const PROBLEM: &str = "list-download-failed";
/// The first pause after a failure; each is twice as long as the one before, up to the list's own.
const RETRY: Duration = Duration::from_secs(60);
/// A timer does not count the time that the host slept.
const NAP: Duration = Duration::from_secs(600);
/// For one list with all that belongs to it.
const LONGEST: Duration = Duration::from_secs(1800);
/// At a time.
const AT_ONCE: usize = 3;
/// Checksums and signatures are small.
const SMALL: u64 = 1 << 16;

/// What is wrong with which list. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Problems(Arc<Mutex<BTreeMap<String, String>>>);

impl Problems {
    pub(super) fn of(&self, list: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(list)
            .cloned()
    }

    /// Told when it begins and when it ends.
    fn set(&self, list: &str, problem: Option<&str>, status: &Status) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = all.keys().any(|other| other != list);
        let was = match &problem {
            Some(text) => all.insert(list.to_owned(), (*text).to_owned()),
            None => all.remove(list),
        };
        match (&was, &problem) {
            // the first one of all is told by the status
            (None, Some(text)) if others => tracing::warn!(list, "{text}"),
            (Some(_), None) if others => tracing::info!(list, "the list was downloaded again"),
            _ => {}
        }
        match all.values().cloned().collect::<Vec<_>>().as_slice() {
            [] => status.clear(PROBLEM),
            texts => status.raise(PROBLEM, texts.join("; ")),
        }
    }
}

/// Beside the list, for the next time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    /// From where, and who vouched for it: see [`identity`].
    from: String,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Seconds since 1970.
    checked: u64,
    names: u64,
}

/// All lists that are published elsewhere.
#[derive(Debug)]
pub struct Downloads {
    sources: Vec<Source>,
    config: PathBuf,
    kept: PathBuf,
    status: Status,
    problems: Problems,
    at_once: Semaphore,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// There was nothing newer.
    Same,
    /// The file was replaced.
    New,
}

impl Downloads {
    /// `config`: where relative files are; `kept`: where downloads go.
    pub fn new(sources: &[Source], config: PathBuf, kept: PathBuf, status: Status) -> Self {
        Self {
            sources: sources
                .iter()
                .filter(|source| source.url.is_some())
                .cloned()
                .collect(),
            config,
            kept,
            status,
            problems: Problems::default(),
            at_once: Semaphore::new(AT_ONCE),
        }
    }

    pub(super) fn problems(&self) -> Problems {
        self.problems.clone()
    }

    /// Keeps all of them new, until `shutdown`.
    pub async fn run(&self, resolver: &impl Resolve, shutdown: &CancellationToken) {
        let all = self
            .sources
            .iter()
            .map(|source| self.look_after(source, resolver));
        let _stopped = shutdown.run_until_cancelled(join_all(all)).await;
    }

    async fn look_after(&self, source: &Source, resolver: &impl Resolve) {
        let interval = Duration::from_secs(u64::from(source.refresh) * 3600);
        let path = self.kept.join(kept_name(&source.name));
        pass(due_in(source, &path, interval)).await;
        let mut retry = RETRY.min(interval);
        loop {
            let looked = Box::pin(self.look(source, resolver)).await;
            let pause = if looked.is_ok() {
                retry = RETRY.min(interval);
                interval
            } else {
                let pause = retry;
                retry = (retry * 2).min(interval);
                pause
            };
            pass(jittered(pause)).await;
        }
    }

    /// Looks once whether there is a newer one, and adopts it; what goes wrong is told.
    ///
    /// # Errors
    /// Why what is there stays as it is.
    pub async fn look(&self, source: &Source, resolver: &impl Resolve) -> anyhow::Result<Looked> {
        let _turn = self.at_once.acquire().await;
        let path = self.kept.join(kept_name(&source.name));
        let part = path.with_extension("part");
        let attempt = timeout(LONGEST, Box::pin(self.attempt(source, resolver, &path, &part))).await;
        let looked = attempt.context("it takes more than half an hour").flatten();
        // there is none where all went well
        let _none = fs::remove_file(&part);
        let problem = looked.as_ref().err().map(|error| {
            let (name, url) = (&source.name, source.url.as_deref().unwrap_or_default());
            let stays = if path.exists() {
                "what it said last stays in force"
            } else {
                "it is not in force"
            };
            format!("list {name:?} from {url}: {error:#}; {stays}, and it is tried again")
        });
        self.problems.set(&source.name, problem.as_deref(), &self.status);
        looked
    }

    async fn attempt(
        &self,
        source: &Source,
        resolver: &impl Resolve,
        path: &Path,
        part: &Path,
    ) -> anyhow::Result<Looked> {
        let text = source.url.as_deref().unwrap_or_default();
        let url = parse_url(text).map_err(anyhow::Error::msg)?;
        let client = Client {
            resolver,
            ca_file: source.ca_file.as_ref().map(|file| self.config.join(file)),
        };
        let known = known(path, source);
        let conditions = Conditions {
            etag: known.etag.clone(),
            last_modified: known.last_modified.clone(),
        };
        fs::create_dir_all(&self.kept).with_context(|| format!("make {}", self.kept.display()))?;
        let mut offer = Offer::create(part)?;
        let limit = source.largest();
        let got = client
            .get(&url, &conditions, limit, |piece| offer.write(piece))
            .await?;
        let Got::Body(given) = got else {
            anyhow::ensure!(
                known.etag.is_some() || known.last_modified.is_some(),
                "the server says that it is known, which it is not"
            );
            remember(
                path,
                &Known {
                    checked: now(),
                    ..known
                },
            )?;
            return Ok(Looked::Same);
        };
        let sum = match source.sha256.as_deref().map(Sum::parse) {
            None => None,
            Some(Ok(Sum::Known(sum))) => Some(sum),
            Some(Ok(Sum::At(at))) => {
                let text = small(&client, &at).await.context("get its checksum")?;
                Some(sum_of(&text, url.path()).context("its checksum's file has none for it")?)
            }
            Some(Err(error)) => anyhow::bail!(error),
        };
        let signature = match &source.minisign_key {
            None => None,
            Some(key) => {
                let at = parse_url(&format!("{text}.minisig")).map_err(anyhow::Error::msg)?;
                let signature = small(&client, &at).await.context("get its signature")?;
                Some((key.clone(), signature))
            }
        };
        let wanted = adopt::Wanted {
            sum,
            signature,
            covers: source.covers.into(),
            names: known.names,
            min_percent: source.min_percent(),
        };
        let to = path.to_owned();
        let names = tokio::task::spawn_blocking(move || offer.adopt(&wanted, &to)).await??;
        remember(
            path,
            &Known {
                from: known.from,
                etag: given.etag,
                last_modified: given.last_modified,
                checked: now(),
                names,
            },
        )?;
        tracing::info!(list = %source.name, names, "list downloaded");
        Ok(Looked::New)
    }
}

async fn small(client: &Client<'_, impl Resolve>, at: &hyper::Uri) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let take = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let what = || format!("from {at}");
    let got = client.get(at, &Conditions::default(), SMALL, take).await;
    let Got::Body(_) = got.with_context(what)? else {
        anyhow::bail!("from {at}: the server says that it is known, which it is not");
    };
    String::from_utf8(bytes).with_context(what)
}

/// As sha256sum(1) writes it: for the file of this name, or the only one.
fn sum_of(text: &str, path: &str) -> Option<String> {
    let file = path.rsplit('/').next().unwrap_or_default();
    let mut sums = text.lines().filter_map(|line| {
        let (sum, name) = line
            .trim()
            .split_once(char::is_whitespace)
            .unwrap_or((line.trim(), ""));
        let name = name.trim_start().trim_start_matches('*');
        is_sum(sum).then(|| {
            (
                sum.to_ascii_lowercase(),
                name.rsplit('/').next().unwrap_or_default(),
            )
        })
    });
    let all: Vec<_> = sums.by_ref().collect();
    match all.as_slice() {
        [(sum, _)] => Some(sum.clone()),
        several => several
            .iter()
            .find(|(_, name)| *name == file)
            .map(|(sum, _)| sum.clone()),
    }
}

/// What is known of the file, as far as there is one and it is from there.
fn known(path: &Path, source: &Source) -> Known {
    let text = fs::read(path.with_extension("json")).unwrap_or_default();
    let known: Known = serde_json::from_slice(&text).unwrap_or_default();
    let from = identity(source);
    if known.from == from && path.exists() {
        return known;
    }
    Known {
        from,
        ..Known::default()
    }
}

/// Where another word of the owner changes this, the file has to be had and looked at anew.
fn identity(source: &Source) -> String {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    [of(&source.url), of(&source.sha256), of(&source.minisign_key)].join(" ")
}

fn remember(path: &Path, known: &Known) -> anyhow::Result<()> {
    let (to, new) = (path.with_extension("json"), path.with_extension("json-new"));
    let what = || format!("write {}", to.display());
    fs::write(&new, serde_json::to_vec(known)?).with_context(what)?;
    fs::rename(&new, &to).with_context(what)
}

/// Waits so long by the clock since boot, which goes on while the host sleeps and which nobody sets.
async fn pass(pause: Duration) {
    let until = server::now() + pause;
    loop {
        let left = until.saturating_sub(server::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(NAP)).await;
    }
}

/// None of it where the clock says nonsense.
fn due_in(source: &Source, path: &Path, interval: Duration) -> Duration {
    let known = known(path, source);
    let passed = now().checked_sub(known.checked).map(Duration::from_secs);
    passed.map_or(Duration::ZERO, |passed| interval.saturating_sub(passed))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Nine to eleven tenths of it, so that not all hosts of the world come at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause * (900 + rand::random::<u32>() % 200) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_its_file() {
        let (one, two) = ("1".repeat(64), "A".repeat(64));
        let several = format!("# sums\n{one}  other.txt\n{two} *lists/ads.txt\n");
        assert_eq!(sum_of(&several, "/x/ads.txt"), Some("a".repeat(64)));
        assert_eq!(sum_of(&several, "/x/none.txt"), None);
        assert_eq!(sum_of(&format!("{one}\n"), "/x/any.txt"), Some(one));
        assert_eq!(sum_of("<html>", "/x/any.txt"), None);
    }
}
