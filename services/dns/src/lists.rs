//! The lists that are in force: read from their files, and again when one changes.
//!
//! Invariant: a file that cannot be read, or has no name in it, takes nothing away: what it said last is kept in the
//! service's own folder, and stays in force. All lists change together, and no query waits for it.

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
    lists::{Builder, Covers, List, Lists as Set, Reader, Report},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::{filter, judge::Judge, rpc};

/// Between two looks whether a file changed.
const LOOK: Duration = Duration::from_secs(2);
/// Larger files are refused: some 40 million names.
const LARGEST: u64 = 1 << 30;
const PROBLEM: &str = "list-refused";

/// A list in `dns.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it is called in reasons and events.
    pub name: String,
    /// What it is about; profiles choose by these words (`block_lists`).
    #[serde(default)]
    pub categories: Vec<String>,
    /// Its file; relative to the folder of the configuration.
    pub file: PathBuf,
    /// What a name alone on its line covers.
    #[serde(default)]
    pub covers: Plain,
}

/// See [`Source::covers`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plain {
    /// That name.
    #[default]
    Name,
    /// And all below it.
    Zone,
}

/// Lists, with what is to be told of them.
#[derive(Debug, Default)]
pub struct Lists {
    set: Set,
    /// Of each list of the set, in its order.
    states: Vec<State>,
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
            problem: state.problem.clone(),
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
    seen: HashMap<PathBuf, Option<Stamp>>,
}

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
        Self {
            sources: sources.to_vec(),
            config: paths.config.clone(),
            kept: paths.state.join("lists"),
            status,
            seen: HashMap::new(),
        }
    }

    /// Reads all of them.
    pub fn load(&mut self) -> Lists {
        let mut builder = Builder::new(rand::random());
        let mut states = Vec::new();
        let mut problems = Vec::new();
        for source in &self.sources {
            let path = self.config.join(&source.file);
            self.seen.insert(path.clone(), stamp(&path));
            if let Err(error) = builder.begin(source.name.as_str().into(), source.categories.clone()) {
                problems.push(format!("list {:?}: {error}", source.name));
                break;
            }
            let kept = self.kept.join(kept_name(&source.name));
            let (report, problem) = read(source, &path, &kept, &mut builder);
            if let Some(problem) = &problem {
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
        Lists { set, states }
    }

    /// Puts what changes in force, until `shutdown`.
    pub async fn follow(mut self, judge: &Judge<Lists>, shutdown: &CancellationToken) {
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

    fn has_changed(&self) -> bool {
        self.seen.iter().any(|(path, seen)| stamp(path) != *seen)
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
    let found = parse(source, path, builder).and_then(|report| {
        anyhow::ensure!(
            report.entries > 0,
            "no line of {} is a name ({} lines say nothing); see docs/lists.md for the forms that are read",
            path.display(),
            report.garbage
        );
        Ok(report)
    });
    match found {
        Ok(report) => {
            if let Err(error) = keep(path, kept) {
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

fn parse(source: &Source, path: &Path, builder: &mut Builder) -> anyhow::Result<Report> {
    let what = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(what)?;
    let size = file.metadata().with_context(what)?.len();
    anyhow::ensure!(
        size <= LARGEST,
        "{} has {size} octets, more than {LARGEST}; split it",
        path.display()
    );
    let plain = match source.covers {
        Plain::Name => Covers::Name,
        Plain::Zone => Covers::Zone,
    };
    let mut reader = Reader::new(plain);
    let mut piece = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut piece).with_context(what)?;
        if length == 0 {
            break;
        }
        reader.feed(piece.get(..length).unwrap_or_default(), |name, covers, says| {
            builder.add(name, covers, says)
        });
    }
    Ok(reader.finish(|name, covers, says| builder.add(name, covers, says)))
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
mod tests {
    use super::*;
    use crate::filter::Lists as _;

    struct Desk {
        folder: tempfile::TempDir,
        keeper: Keeper,
    }

    fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let source: Source = toml::from_str("name = 'ads'\ncategories = ['ads']\nfile = 'ads.txt'").unwrap();
        let about = crate::ABOUT;
        let keeper = Keeper {
            sources: vec![source],
            config: folder.path().to_owned(),
            kept: folder.path().join("kept"),
            status: Status::new(about),
            seen: HashMap::new(),
        };
        Desk { folder, keeper }
    }

    fn has(lists: &Lists, name: &str) -> bool {
        let mut any = false;
        lists.find(&name.parse().unwrap(), &mut |_, category| {
            any |= category == "ads"
        });
        any
    }

    #[test]
    fn what_a_list_said_last_stays_in_force_when_its_file_is_broken() {
        let mut desk = desk();
        let file = desk.folder.path().join("ads.txt");
        let health = |desk: &Desk| desk.keeper.status.snapshot().problems.len();
        assert!(!has(&desk.keeper.load(), "a.test"));
        assert_eq!(health(&desk), 1, "there is no file");
        fs::write(&file, "||a.test^\n").unwrap();
        assert!(desk.keeper.has_changed());
        assert!(has(&desk.keeper.load(), "www.a.test"));
        assert_eq!(health(&desk), 0);
        for broken in ["", "<html>504 Gateway Time-out</html>\n"] {
            fs::write(&file, broken).unwrap();
            let lists = desk.keeper.load();
            assert!(has(&lists, "www.a.test"), "{broken:?}");
            assert_eq!(health(&desk), 1);
        }
        fs::write(&file, "b.test\n").unwrap();
        let lists = desk.keeper.load();
        assert!(has(&lists, "b.test") && !has(&lists, "a.test"));
        assert!(!desk.keeper.has_changed());
    }
}
