//! A snapshot made ready to decide: indexed once, then asked for every flow.

mod decide;
mod encrypted_dns;
mod globs;
mod index;
mod matching;
mod names;
mod settings;
mod unsure;

#[cfg(test)]
mod tests;

use std::time::SystemTime;

pub use self::names::{NameDecision, NameFacts};
use self::{index::Index, settings::Effective};
use super::{
    model::{Action, Clocks, Global, Pause, Profile, Rule, Snapshot},
    resolvers::Resolvers,
    tunnel::TunnelOptions,
};
use crate::{Decision, Flow, Process, Scope, Source};

/// A snapshot that contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Ids name files, so they are unique.
    #[error("two profiles are called {0}")]
    Twice(Source),
    /// It would match everything.
    #[error("profile {0} has a matcher that sets nothing")]
    EmptyMatcher(Source),
    /// `container` shorter than 12 digits would match by chance.
    #[error("profile {0} matches a container by fewer than 12 digits")]
    ShortContainer(Source),
    /// Not a glob, or one too large to be tried.
    #[error("profile {profile} matches by {glob:?}, which cannot be used as a glob")]
    Glob {
        /// Whose.
        profile: Source,
        /// As written.
        glob: String,
        /// What is wrong with it.
        source: globset::Error,
    },
}

/// Whether a text can be used as a glob.
pub(super) fn check_glob(text: &str) -> Result<(), globset::Error> {
    let mut one = globset::GlobSetBuilder::new();
    one.add(globs::glob(text)?);
    one.build().map(drop)
}

/// A profile of one [`CompiledPolicy`], or its global defaults alone. Means nothing to another policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProfileRef(Option<u32>);

impl ProfileRef {
    /// No profile: the global defaults.
    pub const GLOBAL: Self = Self(None);
}

/// All that a decision depends on, beside the profile.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who talks to whom.
    pub flow: Flow,
    /// Where the remote end is: [`Flow::scope`], unless somebody knows better.
    pub scope: Scope,
    /// Owner of the socket, where known.
    pub uid: Option<u32>,
    /// Names that may stand behind the remote address; lower case, no closing dot. A domain rule matches by any of them.
    pub domains: &'a [&'a str],
    /// The local DNS server stands ready: stray queries can be sent to it.
    pub dns_is_served: bool,
    /// For rules and pauses that end.
    pub now: Clocks,
}

/// A decision and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The same as [`CompiledPolicy::decide`] gives.
    pub decision: Decision,
    /// What was tried, in order: `source: why it did not match`, and at last what decided.
    pub steps: Vec<String>,
}

/// A policy that decides.
#[derive(Debug)]
pub struct CompiledPolicy {
    version: u64,
    /// The global defaults alone: no rules of its own, an empty id.
    nobody: Compiled,
    profiles: Vec<Compiled>,
    global: Global,
    redirect_dns: Source,
    resolvers: Resolvers,
    pause: Option<Pause>,
    index: Index,
    /// Whose connections may be tunnelled.
    tunnelling: Vec<ProfileRef>,
}

#[derive(Debug)]
struct Compiled {
    id: Source,
    rules: Vec<Rule>,
    settings: Effective,
}

impl Compiled {
    fn may_tunnel(&self) -> bool {
        self.settings.may_tunnel() || self.rules.iter().any(is_tunnelling)
    }
}

fn is_tunnelling(rule: &Rule) -> bool {
    rule.action == Action::Tunnel
}

impl CompiledPolicy {
    /// Indexes a snapshot; 10,000 profiles take some 10 ms.
    pub fn new(snapshot: Snapshot) -> Result<Self, CompileError> {
        let Snapshot {
            version,
            global,
            mut profiles,
            pause,
        } = snapshot;
        profiles.sort_by(|a, b| a.id.cmp(&b.id));
        let twice = profiles
            .iter()
            .zip(profiles.iter().skip(1))
            .find(|(a, b)| a.id == b.id);
        if let Some((profile, _)) = twice {
            return Err(CompileError::Twice(profile.id.clone()));
        }
        let index = Index::new(&profiles)?;
        let inherited = Effective::global(&global.settings);
        let compile = |Profile {
                           id, settings, rules, ..
                       }: Profile| Compiled {
            settings: inherited.overridden(&id, &settings),
            id,
            rules,
        };
        let nobody = Compiled {
            id: "".into(),
            rules: Vec::new(),
            settings: inherited.clone(),
        };
        let profiles: Vec<_> = profiles.into_iter().map(compile).collect();
        let everybody = nobody.may_tunnel() || global.rules.iter().any(is_tunnelling);
        let theirs = (0..).zip(&profiles).filter(|(_, profile)| profile.may_tunnel());
        let tunnelling = everybody
            .then_some(ProfileRef::GLOBAL)
            .into_iter()
            .chain(theirs.map(|(number, _)| ProfileRef(Some(number))))
            .collect();
        Ok(Self {
            version,
            profiles,
            nobody,
            tunnelling,
            redirect_dns: "global#redirect_dns".into(),
            resolvers: Resolvers::new(&global.encrypted_dns_resolvers),
            global,
            pause,
            index,
        })
    }

    /// The snapshot's version.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many profiles there are.
    pub const fn len(&self) -> usize {
        self.profiles.len()
    }

    /// There is no profile.
    pub const fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// A profile asks for executables' SHA-256: without it such profiles never match.
    pub const fn needs_hash(&self) -> bool {
        self.index.needs_hash()
    }

    /// Somebody's connections may be tunnelled.
    pub const fn may_tunnel(&self) -> bool {
        !self.tunnelling.is_empty()
    }

    /// The profile of a process; `None`: the process could not be found.
    pub fn profile_for(&self, process: Option<&Process>) -> ProfileRef {
        ProfileRef(match process {
            Some(process) => self.index.find(process),
            None => self.index.unknown(),
        })
    }

    /// A profile by its id.
    pub fn profile_named(&self, id: &str) -> Option<ProfileRef> {
        let found = self
            .profiles
            .binary_search_by(|profile| (*profile.id).cmp(id))
            .ok()?;
        Some(ProfileRef(Some(u32::try_from(found).ok()?)))
    }

    /// Its id; empty for the global defaults.
    pub fn profile_id(&self, profile: ProfileRef) -> Source {
        self.compiled(profile).id.clone()
    }

    /// How connections of this profile travel through Gate17. An id that is no profile's has the global settings: a profile
    /// may be gone by the time that its connection is carried.
    pub fn tunnel_options(&self, profile: &str) -> &TunnelOptions {
        let profile = self.profile_named(profile).unwrap_or(ProfileRef::GLOBAL);
        &self.compiled(profile).settings.tunnel
    }

    /// The pause that holds at this time.
    pub fn paused(&self, now: Clocks) -> Option<Pause> {
        self.pause.filter(|pause| pause.holds(now))
    }

    /// When the next rule or a pause expires, after `now` and by the wall clock as it is set now: decisions may change then.
    pub fn next_expiry(&self, now: Clocks) -> Option<SystemTime> {
        let profiles = self.profiles.iter().flat_map(|profile| &profile.rules);
        let all = profiles.chain(&self.global.rules);
        let pause = self.pause.and_then(|pause| pause.ends(now));
        all.filter_map(|rule| rule.expires)
            .chain(pause)
            .filter(|expires| *expires > now.wall)
            .min()
    }

    fn compiled(&self, profile: ProfileRef) -> &Compiled {
        let index = profile.0.and_then(|index| usize::try_from(index).ok());
        index
            .and_then(|index| self.profiles.get(index))
            .unwrap_or(&self.nobody)
    }
}
