//! The lists that are in force: read from their files, and again when one changes; those that are published elsewhere
//! are downloaded into files first ([`Downloads`]).
//!
//! Invariant: a file that cannot be read, or has no name in it, takes nothing away: what it said last is kept in the
//! service's own folder, and stays in force. All lists change together, and no query waits for it.
//!
//! [`Keeper::new`] and [`Keeper::load`] before the first query, then [`Keeper::follow`] beside the server.

mod adopt;
mod download;
mod http;
mod resolve;
mod source;

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use daemon::{Paths, status::Status};
use dns_core::{
    Name,
    lists::{Builder, List, Lists as Set, MOST_NAMES, Reader, Report},
};
use tokio_util::sync::CancellationToken;

use crate::{filter, judge::Judge, rpc};
use download::Problems;
pub use download::{Downloads, Looked};
pub use http::Resolve;
pub use source::{Plain, Source};

/// Between two looks whether a file changed.
const LOOK: Duration = Duration::from_secs(1);
const PROBLEM: &str = "list-refused";

/// Lists, with what is to be told of them.
#[derive(Debug, Default)]
pub struct Lists {
    set: Set,
    /// Of each list of the set, in its order.
    states: Vec<State>,
    problems: Problems,
}

#[derive(Clone, Debug)]
struct State {
    garbage: u64,
    loaded: SystemTime,
    problem: String,
}

impl filter::Lists for Lists {
    fn find(&self, name: &Name, found: &mut dyn FnMut(&Arc<str>, &str)) {
        self.set.find(name, |list: &List| {
            for category in &list.categories {
                found(&list.name, category);
            }
            if list.categories.is_empty() {
                // only who filters by all lists filters by this one
                found(&list.name, "");
            }
        });
    }
}

impl rpc::Told for Lists {
    fn told(&self) -> Vec<proto::dns::v1::List> {
        let all = self.set.lists().iter().zip(&self.states);
        all.map(|(list, state)| proto::dns::v1::List {
            name: list.name.to_string(),
            categories: list.categories.clone(),
            names: list.names,
            garbage: state.garbage,
            loaded: Some(state.loaded.into()),
            problem: match self.problems.of(&list.name) {
                Some(problem) if state.problem.is_empty() => problem,
                _ => state.problem.clone(),
            },
        })
        .collect()
    }
}

/// Follows the files.
#[derive(Debug)]
pub struct Keeper {
    sources: Vec<Source>,
    /// Where relative files are.
    config: PathBuf,
    /// Where the last good ones are.
    kept: PathBuf,
    status: Status,
    /// As they were when they were read.
    seen: Stamps,
    /// As they were at the last look, where that is something else.
    changing: Option<Stamps>,
    downloads: Arc<Downloads>,
}

/// None: it is not there.
type Stamps = HashMap<PathBuf, Option<Stamp>>;

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Keeper {
    /// Nothing is read yet.
    pub fn new(sources: &[Source], paths: &Paths, status: Status) -> Self {
        let (config, kept) = (paths.config.clone(), paths.state.join("lists"));
        let downloads = Downloads::new(sources, config.clone(), kept.clone(), status.clone());
        Self {
            sources: sources.to_vec(),
            config,
            kept,
            status,
            seen: Stamps::new(),
            changing: None,
            downloads: Arc::new(downloads),
        }
    }

    /// Reads all of them.
    pub fn load(&mut self) -> Lists {
        let mut builder = Builder::new(rand::random());
        let mut states = Vec::new();
        let mut problems = Vec::new();
        for source in &self.sources {
            let kept = self.kept.join(kept_name(&source.name));
            let path = match &source.file {
                Some(file) => self.config.join(file),
                None => kept.clone(),
            };
            self.seen.insert(path.clone(), stamp(&path));
            if let Err(error) = builder.begin(source.name.as_str().into(), source.categories.clone()) {
                problems.push(format!("list {:?}: {error}", source.name));
                break;
            }
            let (report, problem) = read(source, &path, &kept, &mut builder);
            if let Some(problem) = problem
                .as_ref()
                .filter(|_| source.file.is_some() || path.exists())
            {
                problems.push(problem.clone());
            }
            if report.garbage > 0 {
                tracing::info!(list = %source.name, lines = report.garbage, first = ?report.first, "lines of a list say nothing");
            }
            states.push(State {
                garbage: report.garbage,
                loaded: SystemTime::now(),
                problem: problem.unwrap_or_default(),
            });
        }
        let set = builder.finish();
        match problems.as_slice() {
            [] => self.status.clear(PROBLEM),
            problems => self.status.raise(PROBLEM, problems.join("; ")),
        }
        let names: u64 = set.lists().iter().map(|list| list.names).sum();
        self.status.counter("list_names_now").set(names);
        self.status
            .counter("list_octets_now")
            .set(u64::try_from(set.octets()).unwrap_or(u64::MAX));
        if !self.sources.is_empty() {
            tracing::info!(lists = self.sources.len(), names, "lists in force");
        }
        Lists {
            set,
            states,
            problems: self.downloads.problems(),
        }
    }

    /// Puts what changes in force, until `shutdown`.
    pub async fn follow(self, judge: &Judge<Lists>, shutdown: &CancellationToken) {
        let downloads = Arc::clone(&self.downloads);
        tokio::join!(
            self.follow_files(judge, shutdown),
            downloads.run(judge.lookup.router(), shutdown)
        );
    }

    async fn follow_files(mut self, judge: &Judge<Lists>, shutdown: &CancellationToken) {
        while shutdown
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            if !self.has_changed() {
                continue;
            }
            let loading = tokio::task::spawn_blocking(move || {
                let lists = self.load();
                (self, lists)
            });
            let Ok((keeper, lists)) = loading.await else {
                return;
            };
            self = keeper;
            judge.lists.store(Arc::new(lists));
        }
    }

    /// Whether a file is another one, and was the same at two looks: what is still being written is not read.
    fn has_changed(&mut self) -> bool {
        let now: Stamps = self.seen.keys().map(|path| (path.clone(), stamp(path))).collect();
        if now == self.seen {
            self.changing = None;
            return false;
        }
        let is_still = self.changing.as_ref() == Some(&now);
        self.changing = Some(now);
        is_still
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: metadata.modified().ok(),
        size: metadata.len(),
        inode: metadata.ino(),
    })
}

/// Its names, from its file or else from what was kept of it; and what is wrong.
fn read(source: &Source, path: &Path, kept: &Path, builder: &mut Builder) -> (Report, Option<String>) {
    if source.url.is_some() && !path.exists() {
        // why, the download tells
        return (Report::default(), Some("it was not downloaded yet".into()));
    }
    let found = parse(source, path, builder).and_then(|report| {
        anyhow::ensure!(
            report.entries > 0,
            "no line of {} is a name ({} lines say nothing); see docs/lists.md for the forms that are read",
            path.display(),
            report.garbage
        );
        if path != kept {
            has_not_shrunk(source, &report, kept)?;
        }
        Ok(report)
    });
    match found {
        Ok(report) => {
            if path != kept
                && let Err(error) = keep(path, kept)
            {
                tracing::warn!(%error, list = %source.name, "a copy of the list cannot be kept");
            }
            (report, None)
        }
        Err(error) => {
            let problem = format!("list {:?}: {error:#}", source.name);
            // half of a list is none
            builder.take_back();
            match parse(source, kept, builder) {
                Ok(report) => (
                    report,
                    Some(format!("{problem}; what it said last stays in force")),
                ),
                Err(_) => {
                    builder.take_back();
                    (Report::default(), Some(format!("{problem}; it is not in force")))
                }
            }
        }
    }
}

/// A file of the owner's is compared with what was kept of it, where the owner wants it.
fn has_not_shrunk(source: &Source, report: &Report, kept: &Path) -> anyhow::Result<()> {
    let least = source.min_percent();
    if least == 0 || !kept.exists() {
        return Ok(());
    }
    let before = feed(source, kept, |reader, piece| {
        reader.feed(piece, |_, _, _| ());
        Ok(())
    })?
    .finish(|_, _, _| ())
    .entries;
    anyhow::ensure!(
        u128::from(report.entries) * 100 >= u128::from(before) * u128::from(least),
        "it has {} names after {before}, less than `min_percent` permits",
        report.entries
    );
    Ok(())
}

fn parse(source: &Source, path: &Path, builder: &mut Builder) -> anyhow::Result<Report> {
    let room = |builder: &Builder| {
        anyhow::ensure!(
            !builder.is_overfull(),
            "there is no room for all names of {}: {MOST_NAMES} are the most of all lists together",
            path.display()
        );
        Ok(())
    };
    let reader = feed(source, path, |reader, piece| {
        reader.feed(piece, |name, covers, says| builder.add(name, covers, says));
        room(builder)
    })?;
    let report = reader.finish(|name, covers, says| builder.add(name, covers, says));
    room(builder)?;
    Ok(report)
}

/// Reads a file piece by piece.
fn feed(
    source: &Source,
    path: &Path,
    mut take: impl FnMut(&mut Reader, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Reader> {
    let what = || format!("read {}", path.display());
    // a pipe would keep whoever opens it
    let metadata = fs::metadata(path).with_context(what)?;
    anyhow::ensure!(metadata.is_file(), "{} is no file", path.display());
    let (size, largest) = (metadata.len(), source.largest());
    anyhow::ensure!(
        size <= largest,
        "{} has {size} octets, more than `max_size` permits ({largest}); split it",
        path.display()
    );
    let mut reader = Reader::new(source.covers.into());
    let mut piece = vec![0; 1 << 16];
    // one that grows meanwhile is no larger for it
    let mut file = File::open(path).with_context(what)?.take(largest);
    loop {
        let length = file.read(&mut piece).with_context(what)?;
        if length == 0 {
            return Ok(reader);
        }
        take(&mut reader, piece.get(..length).unwrap_or_default())?;
    }
}

/// A copy in one step.
fn keep(path: &Path, kept: &Path) -> anyhow::Result<()> {
    let folder = kept.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let new = kept.with_extension("new");
    fs::copy(path, &new)?;
    Ok(fs::rename(&new, kept)?)
}

/// A file name of any list name.
fn kept_name(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut file, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            file.push(char::from(byte));
        } else {
            // never fails for a string
            let _ = write!(file, "_{byte:02x}");
        }
        file
    })
}

#[cfg(test)]
mod tests;
