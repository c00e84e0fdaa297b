//! From what is asked for to the file that would stand there, and what it would do.

use std::path::{Path, PathBuf};

use proto::policy::v1::NewMatch;
use similar::TextDiff;
use verdict::policy::{
    CompiledPolicy, Explanation,
    file::{self, GLOBAL},
    model::{Clocks, Profile, Snapshot},
};

use super::{Change, ChangeError, Edit, Effect, Outcome, Probe};
use crate::{edit, links, lockout, owned::Owned};

/// Octets of a file, as the reader takes them.
const LONGEST: usize = 1 << 20;

/// What a change is planned on.
#[derive(Clone, Copy)]
pub(crate) struct Where<'a> {
    pub(crate) folder: &'a Path,
    /// What is in force.
    pub(crate) current: &'a Snapshot,
    pub(crate) users: &'a dyn Fn(&str) -> Option<u32>,
    /// Whether the host has a program.
    pub(crate) is_there: &'a dyn Fn(&Path) -> bool,
    pub(crate) now: Clocks,
}

/// A change that can be made.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) path: PathBuf,
    pub(crate) outcome: Outcome,
}

impl Plan {
    /// Reads the file and the policy in force; changes nothing.
    pub(crate) fn new(change: &Change, on: &Where<'_>) -> Result<Self, ChangeError> {
        let id = match (&change.edit, change.id.as_str()) {
            (Edit::AddRule { of: Some(of), .. }, "") => id_for(of, on)?,
            (_, id) => id.to_owned(),
        };
        let path = path(on, &id)?;
        let before = Owned::read(&path)?;
        expect(change, &id, &before)?;
        let after = edited(change, &id, &before)?;
        let candidate = with(on, &id, &path, &after)?;
        let outcome = judged(change, on, id, (before, after), candidate)?;
        Ok(Self { path, outcome })
    }
}

/// The profile of this match alone; else a new one, called after its program.
fn id_for(of: &NewMatch, on: &Where<'_>) -> Result<String, ChangeError> {
    let text = edit::only_match(of);
    let parsed = file::parse_profile("new", "new profile", &text, on.users)?;
    let wanted = parsed.matchers;
    // what links led to was added when it was read
    let is_it = |profile: &&Profile| {
        let extra = links::followed(&Profile {
            matchers: wanted.clone(),
            ..Profile::default()
        });
        profile.matchers == wanted || profile.matchers == extra.matchers
    };
    if let Some(found) = on.current.profiles.iter().find(is_it) {
        return Ok(found.id.to_string());
    }
    let base = word(of);
    let free = |id: &String| !on.folder.join(format!("{id}.toml")).exists();
    let mut names = std::iter::once(base.clone()).chain((2..10_000).map(|number| format!("{base}-{number}")));
    names
        .find(free)
        .ok_or_else(|| ChangeError::Asked(format!("id is missing: every name like {base:?} is taken")))
}

/// What people call it.
fn word(of: &NewMatch) -> String {
    let texts = [
        &of.script,
        &of.path,
        &of.flatpak,
        &of.snap,
        &of.unit,
        &of.cgroup,
        &of.container,
        &of.sha256,
        &of.user,
    ];
    let text = texts.into_iter().find(|text| !text.is_empty());
    let text = text.map_or("unknown", |text| text.rsplit('/').next().unwrap_or(text));
    let text = text.strip_suffix(".service").unwrap_or(text);
    let fits = |sign: &char| sign.is_ascii_alphanumeric() || "._-+@".contains(*sign);
    let word: String = text.chars().filter(fits).take(64).collect();
    let word = word.trim_start_matches('.').to_owned();
    let is_reserved = word.is_empty() || word == GLOBAL || word == "shipped";
    if is_reserved { "profile".to_owned() } else { word }
}

/// Where the file of this id is. An id that is no name names no file.
fn path(on: &Where<'_>, id: &str) -> Result<PathBuf, ChangeError> {
    if id.is_empty() {
        return Err(ChangeError::Asked(
            "id is missing: the file's name without .toml".to_owned(),
        ));
    }
    if id != GLOBAL {
        // by the parser's own word
        let text = "[[match]]\nuser = 0\n";
        file::parse_profile(id, &format!("{id}.toml"), text, on.users)?;
    }
    Ok(on.folder.join(format!("{id}.toml")))
}

fn expect(change: &Change, id: &str, before: &Owned) -> Result<(), ChangeError> {
    let revision = before.revision();
    match change.expected_revision.as_deref() {
        Some(expected) if expected != revision => Err(ChangeError::Revision {
            what: if revision.is_empty() {
                format!("there is no profile {id:?} any more, its revision is \"\"")
            } else {
                format!("profile {id:?} is another one by now, its revision is \"{revision}\"")
            },
        }),
        _ => Ok(()),
    }
}

fn edited(change: &Change, id: &str, before: &Owned) -> Result<Owned, ChangeError> {
    let there = || match before.text {
        Some(_) => Ok(before.text()),
        None => Err(ChangeError::Missing(id.to_owned())),
    };
    let text = match &change.edit {
        Edit::Write(text) => text.clone(),
        Edit::Remove => {
            there()?;
            return Ok(Owned { text: None });
        }
        Edit::AddRule { rule, number, of } => match (&before.text, of) {
            (Some(text), _) => edit::add_rule(text, rule, *number)?,
            (None, Some(of)) if id != GLOBAL => edit::new_profile(of, rule)?,
            (None, _) if id == GLOBAL => edit::add_rule("", rule, *number)?,
            (None, _) => return Err(ChangeError::Missing(id.to_owned())),
        },
        Edit::RemoveRule(number) => edit::remove_rule(there()?, *number)?,
        Edit::SetSwitches(switches, fields) => edit::set_switches(before.text(), switches, fields)?,
    };
    if text.len() > LONGEST {
        return Err(ChangeError::Asked(format!(
            "the file would be larger than {} KiB; split it into several profiles",
            LONGEST >> 10
        )));
    }
    Ok(Owned { text: Some(text) })
}

/// What would be in force.
fn with(on: &Where<'_>, id: &str, path: &Path, after: &Owned) -> Result<Snapshot, ChangeError> {
    let mut snapshot = on.current.clone();
    let shown = path.display().to_string();
    if id == GLOBAL {
        snapshot.global = match &after.text {
            Some(text) => file::parse_global(&shown, text, on.users)?,
            None => verdict::policy::shipped()?.global,
        };
        return Ok(snapshot);
    }
    snapshot.profiles.retain(|profile| &*profile.id != id);
    if let Some(text) = &after.text {
        let profile = links::followed(&file::parse_profile(id, &shown, text, on.users)?);
        let place = snapshot.profiles.partition_point(|other| *other.id < *profile.id);
        snapshot.profiles.insert(place, profile);
    }
    Ok(snapshot)
}

fn judged(
    change: &Change,
    on: &Where<'_>,
    id: String,
    (was, is): (Owned, Owned),
    candidate: Snapshot,
) -> Result<Outcome, ChangeError> {
    let without_pause = |snapshot: Snapshot| {
        CompiledPolicy::new(Snapshot {
            pause: None,
            ..snapshot
        })
    };
    // a pause lets everything pass: it would hide what is lost when it ends
    let before = without_pause(on.current.clone())?;
    let mut warnings = overrides(&id, &candidate, &before);
    let after = without_pause(candidate)?;
    let (mut lost, more) = lockout::lost(&before, &after, on.is_there, on.now);
    warnings.extend(more);
    let mut effects = Vec::new();
    for (number, probe) in change.probes.iter().enumerate() {
        let domains = [probe.domain.as_str()];
        let domains = if probe.domain.is_empty() {
            &[][..]
        } else {
            &domains
        };
        if !probe.vital.is_empty()
            && let Some((before, after)) = lockout::compare(
                &before,
                &after,
                probe.process.as_ref(),
                probe.flow,
                domains,
                on.now,
            )
        {
            lost.push(lockout::Lost {
                what: probe.vital.clone(),
                before,
                after,
            });
        }
        let explained = |policy: &CompiledPolicy| explain(policy, probe, domains, on.now);
        let (then, now) = (explained(&before), explained(&after));
        if number == 0 || then.decision != now.decision {
            effects.push(Effect {
                probe: number,
                before: then,
                after: now,
            });
        }
    }
    lost.dedup_by(|one, other| one.what == other.what);
    let diff = diff(&id, was.text(), is.text());
    Ok(Outcome {
        id,
        before: was,
        after: is,
        diff,
        lost,
        warnings,
        effects,
        saved: false,
        version: on.current.version,
        backup: None,
    })
}

fn explain(policy: &CompiledPolicy, probe: &Probe, domains: &[&str], now: Clocks) -> Explanation {
    let facts = lockout::facts(probe.process.as_ref(), probe.flow, domains, now);
    policy.explain(policy.profile_for(probe.process.as_ref()), &facts)
}

/// Programs that another profile is for until now: its rules are theirs no longer.
fn overrides(id: &str, candidate: &Snapshot, before: &CompiledPolicy) -> Vec<String> {
    if before.profile_named(id).is_some() {
        return Vec::new();
    }
    let made = candidate.profiles.iter().find(|profile| &*profile.id == id);
    let paths = made
        .into_iter()
        .flat_map(|profile| &profile.matchers)
        .filter_map(|matcher| matcher.path.clone());
    let said = |path: PathBuf| {
        let process = verdict::Process {
            executable: verdict::Executable {
                path: Some(path.clone()),
                ..verdict::Executable::default()
            },
            ..verdict::Process::default()
        };
        let other = before.profile_id(before.profile_for(Some(&process)));
        (!other.is_empty()).then(|| {
            format!(
                "{} has profile {other:?} until now, whose rules and settings are its own no longer",
                path.display()
            )
        })
    };
    paths.filter_map(said).collect()
}

fn diff(id: &str, before: &str, after: &str) -> String {
    let name = format!("{id}.toml");
    TextDiff::from_lines(before, after)
        .unified_diff()
        .header(&name, &name)
        .to_string()
}
