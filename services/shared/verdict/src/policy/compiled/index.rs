//! From a process to its profile. Every matcher stands in one table, under its most telling key; the tables are asked from
//! the most telling kind of key to the least.

use std::{cmp::Reverse, collections::HashMap, hash::Hash, path::PathBuf};

use super::{CompileError, globs::Globs, matching::Candidate};
use crate::{
    Process,
    policy::model::{Matcher, Profile},
};

/// Container ids are cut to 12 digits in the engines' own listings.
const CONTAINER_DIGITS: usize = 12;

type Table<K> = HashMap<K, Vec<Candidate>>;

#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    Flatpak(String),
    Snap(String),
    /// The first 12 digits.
    Container(String),
    Unit(String),
}

#[derive(Debug, Default)]
pub(super) struct Index {
    hashes: Table<[u8; 32]>,
    scripts: Table<PathBuf>,
    paths: Table<PathBuf>,
    places: Table<Place>,
    path_globs: Globbed,
    cgroup_globs: Globbed,
    uids: Table<u32>,
    unknown: Option<u32>,
    needs_hash: bool,
}

#[derive(Debug, Default)]
struct Globbed {
    globs: Globs,
    candidates: Vec<Candidate>,
}

impl Index {
    /// `profiles` are sorted by id.
    pub(super) fn new(profiles: &[Profile]) -> Result<Self, CompileError> {
        let mut index = Self::default();
        for (number, profile) in (0..).zip(profiles) {
            for matcher in &profile.matchers {
                index.add(number, profile, matcher)?;
            }
        }
        index
            .path_globs
            .compile(profiles, |matcher| matcher.path_glob.as_deref())?;
        index
            .cgroup_globs
            .compile(profiles, |matcher| matcher.cgroup.as_deref())?;
        Ok(index)
    }

    pub(super) const fn needs_hash(&self) -> bool {
        self.needs_hash
    }

    pub(super) const fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    pub(super) fn find(&self, process: &Process) -> Option<u32> {
        let executable = &process.executable;
        let hash = executable.sha256.and_then(|hash| self.hashes.get(&hash));
        let script = process
            .script
            .as_ref()
            .and_then(|script| self.scripts.get(script));
        let path = executable.path.as_ref().and_then(|path| self.paths.get(path));
        best(hash.into_iter().flatten(), process)
            .or_else(|| best(script.into_iter().flatten(), process))
            .or_else(|| best(path.into_iter().flatten(), process))
            .or_else(|| self.in_place(process))
            .or_else(|| self.globbed(process))
            .or_else(|| best(self.uids.get(&process.uid).into_iter().flatten(), process))
    }

    fn in_place(&self, process: &Process) -> Option<u32> {
        if self.places.is_empty() {
            return None;
        }
        let cgroup = &process.cgroup;
        let container = cgroup.container.get(..CONTAINER_DIGITS).unwrap_or_default();
        let places = [
            Place::Flatpak(cgroup.flatpak.clone()),
            Place::Snap(cgroup.snap.clone()),
            Place::Container(container.to_owned()),
            Place::Unit(cgroup.unit.clone()),
            Place::Unit(cgroup.user_unit.clone()),
        ];
        best(
            places.iter().filter_map(|place| self.places.get(place)).flatten(),
            process,
        )
    }

    fn globbed(&self, process: &Process) -> Option<u32> {
        let path = process.executable.path.as_deref();
        let by_path = path.into_iter().flat_map(|path| self.path_globs.matching(path));
        let by_cgroup = self.cgroup_globs.matching(process.cgroup.path.as_ref());
        best(by_path.chain(by_cgroup), process)
    }

    fn add(&mut self, number: u32, profile: &Profile, matcher: &Matcher) -> Result<(), CompileError> {
        if *matcher == Matcher::default() {
            return Err(CompileError::EmptyMatcher(profile.id.clone()));
        }
        if matcher.unknown {
            // With another key beside it, it asks for somebody who is not known and has properties: that is nobody.
            if (Matcher {
                unknown: true,
                ..Matcher::default()
            }) == *matcher
            {
                self.unknown.get_or_insert(number);
            }
            return Ok(());
        }
        let place = place(profile, matcher)?;
        let mut add = Candidate::new(number, profile, matcher)?;
        self.needs_hash |= matcher.sha256.is_some();
        if let Some(hash) = matcher.sha256 {
            self.hashes.entry(hash).or_default().push(add);
        } else if let Some(script) = &matcher.script {
            self.scripts.entry(script.clone()).or_default().push(add);
        } else if let Some(path) = &matcher.path {
            self.paths.entry(path.clone()).or_default().push(add);
        } else if let Some(place) = place {
            self.places.entry(place).or_default().push(add);
        } else if matcher.path_glob.is_some() {
            add.path_glob = None; // the set does that
            self.path_globs.candidates.push(add);
        } else if matcher.cgroup.is_some() {
            add.cgroup_glob = None;
            self.cgroup_globs.candidates.push(add);
        } else if let Some(uid) = matcher.uid {
            self.uids.entry(uid).or_default().push(add);
        }
        Ok(())
    }
}

fn place(profile: &Profile, matcher: &Matcher) -> Result<Option<Place>, CompileError> {
    let container = match &matcher.container {
        None => None,
        Some(id) => {
            let digits = id.get(..CONTAINER_DIGITS);
            Some(digits.ok_or_else(|| CompileError::ShortContainer(profile.id.clone()))?)
        }
    };
    Ok(matcher
        .flatpak
        .clone()
        .map(Place::Flatpak)
        .or_else(|| matcher.snap.clone().map(Place::Snap))
        .or_else(|| container.map(|digits| Place::Container(digits.to_owned())))
        .or_else(|| matcher.unit.clone().map(Place::Unit)))
}

/// The best of those that match in full: most keys, then the first id.
fn best<'a>(candidates: impl Iterator<Item = &'a Candidate>, process: &Process) -> Option<u32> {
    let matching = candidates.filter(|candidate| candidate.matches(process));
    matching
        .min_by_key(|candidate| (Reverse(candidate.keys), candidate.profile))
        .map(|candidate| candidate.profile)
}

impl Globbed {
    fn compile(
        &mut self,
        profiles: &[Profile],
        glob: impl Fn(&Matcher) -> Option<&str>,
    ) -> Result<(), CompileError> {
        let text = |candidate: &Candidate| glob(&candidate.matcher).unwrap_or_default().to_owned();
        let texts: Vec<_> = self.candidates.iter().map(text).collect();
        self.globs = Globs::new(&texts).map_err(|(number, source)| {
            let candidate = self.candidates.get(number);
            let profile =
                candidate.and_then(|candidate| profiles.get(usize::try_from(candidate.profile).ok()?));
            let glob = texts.get(number).cloned().unwrap_or_default();
            CompileError::Glob {
                profile: profile.map(|profile| profile.id.clone()).unwrap_or_default(),
                glob,
                source,
            }
        })?;
        Ok(())
    }

    fn matching(&self, path: &std::path::Path) -> impl Iterator<Item = &Candidate> {
        self.globs
            .matching(path)
            .into_iter()
            .filter_map(|number| self.candidates.get(number))
    }
}
