//! The folder of profiles: every file with its last good content.
//!
//! Invariant: a file that cannot be taken changes nothing but its own `refused`; a folder that cannot be read changes
//! nothing at all. Only a file that is gone from a folder that is there takes its profile away.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use verdict::policy::{
    file::{self, FileError},
    model::{Global, Profile, Snapshot},
};

use crate::{
    entry::{Entry, Refused},
    links,
};

/// Files that must be read again, even if they look the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// These.
    Paths(HashSet<PathBuf>),
    /// Any of them.
    All,
}

impl Default for Changed {
    fn default() -> Self {
        Self::Paths(HashSet::new())
    }
}

impl Changed {
    pub(crate) fn add(&mut self, paths: Vec<PathBuf>) {
        if let Self::Paths(changed) = self {
            changed.extend(paths);
        }
    }

    fn includes(&self, path: &Path) -> bool {
        match self {
            Self::Paths(paths) => paths.contains(path),
            Self::All => true,
        }
    }
}

/// How the folder itself is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    /// It was read.
    Read,
    /// It is not there, and nothing ever came from it.
    Absent,
    /// It cannot be read: the last good state stays, and this is what the owner should know.
    Lost(String),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Book {
    folder: PathBuf,
    shipped: Global,
    global: Option<Entry<Global>>,
    profiles: BTreeMap<String, Entry<Profile>>,
}

impl Book {
    /// Begins with what was kept from the last run.
    pub(crate) fn new(folder: PathBuf, kept: Option<&Snapshot>) -> Result<Self, FileError> {
        let shipped = verdict::policy::shipped()?.global;
        let global = kept.map(|kept| &kept.global).filter(|global| **global != shipped);
        let profiles = kept.into_iter().flat_map(|kept| &kept.profiles);
        Ok(Self {
            folder,
            global: global.cloned().map(Entry::kept),
            profiles: profiles
                .map(|profile| (profile.id.to_string(), Entry::kept(profile.clone())))
                .collect(),
            shipped,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Looks at all files, and reads those that changed.
    pub(crate) fn scan(
        &mut self,
        changed: &Changed,
        now: SystemTime,
        users: &dyn Fn(&str) -> Option<u32>,
    ) -> Folder {
        let names = match names(&self.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_empty() => {
                return Folder::Absent;
            }
            Err(error) => {
                let folder = self.folder.display();
                return Folder::Lost(format!(
                    "{folder} cannot be read: {error}; the profiles last read stay in force, put the folder back"
                ));
            }
        };
        let mut seen = BTreeSet::new();
        let mut has_global = false;
        for name in names {
            let path = self.folder.join(&name);
            let (shown, again) = (path.display().to_string(), changed.includes(&path));
            let id = id(&name);
            if id == file::GLOBAL {
                let parse = |text: &str| file::parse_global(&shown, text, users);
                has_global = self.global.get_or_insert_default().look(&path, again, now, parse);
            } else {
                let parse = |text: &str| file::parse_profile(&id, &shown, text, users);
                if self
                    .profiles
                    .entry(id.clone())
                    .or_default()
                    .look(&path, again, now, parse)
                {
                    seen.insert(id);
                }
            }
        }
        self.profiles.retain(|id, _| seen.contains(id));
        if !has_global {
            self.global = None;
        }
        Folder::Read
    }

    /// What the files say, under this version. Asks the disk where links lead.
    pub(crate) fn snapshot(&self, version: u64) -> Snapshot {
        let global = self.global.as_ref().and_then(Entry::good);
        let profiles = self.profiles.values().filter_map(Entry::good);
        Snapshot {
            version,
            global: global.unwrap_or(&self.shipped).clone(),
            profiles: profiles.map(links::followed).collect(),
            pause: None,
        }
    }

    /// Files that are not in force as they stand.
    pub(crate) fn refused(&self) -> Vec<(PathBuf, Refused)> {
        let global = self.global.iter().map(|entry| (file::GLOBAL, entry.refused()));
        let profiles = self
            .profiles
            .iter()
            .map(|(id, entry)| (id.as_str(), entry.refused()));
        let all = global.chain(profiles);
        let path = |id| self.folder.join(format!("{id}.toml"));
        all.filter_map(|(id, refused)| Some((path(id), refused?.clone())))
            .collect()
    }

    /// Files looked at.
    pub(crate) fn files(&self) -> usize {
        self.profiles.len() + usize::from(self.global.is_some())
    }

    fn is_empty(&self) -> bool {
        self.files() == 0
    }
}

/// Files called `*.toml`; hidden ones are editors' own.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension() == Some(OsStr::new("toml")) {
            names.push(name);
        }
    }
    Ok(names)
}

/// A name that is not UTF-8 becomes an id that no profile can have, and is refused as such.
fn id(name: &OsStr) -> String {
    Path::new(name)
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
