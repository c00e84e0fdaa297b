//! The owner's files, and what becomes of them, as they are told.

use std::path::Path;

use daemon::users;
use proto::policy::v1::{
    ChangeReply, Effect, ExplainReply, ListFilesReply, LockOut, ProfileFile, RefusedFile,
};
use tonic::Status;
use verdict::policy::{
    Explanation,
    file::{self, GLOBAL},
    model::Global,
};

use crate::{
    change::{self, ChangeError, Outcome},
    in_force::InForce,
    owned::Owned,
    switches,
};

/// One file, or all of the folder. Reads the disk.
pub(super) fn list(
    folder: &Path,
    id: &str,
    in_force: &InForce,
    refused: &[RefusedFile],
) -> Result<ListFilesReply, Status> {
    let ids = match id {
        "" => ids(folder),
        id if id.contains('/') || id.starts_with('.') => Vec::new(),
        id => vec![id.to_owned()],
    };
    let mut files = Vec::with_capacity(ids.len());
    for id in ids {
        let path = folder.join(format!("{id}.toml"));
        let shown = path.display().to_string();
        let refused = refused.iter().find(|refused| refused.path == shown);
        let problem = refused.map(|refused| refused.error.clone()).unwrap_or_default();
        // a link, or what cannot be read: it is listed with what is wrong
        let (owned, problem) = match Owned::read(&path) {
            Ok(owned) => (owned, problem),
            Err(error) => (Owned::default(), error.to_string()),
        };
        files.push(told(id, &owned, problem));
    }
    let own = Owned::read(&folder.join(format!("{GLOBAL}.toml"))).unwrap_or_default();
    let global = in_force.wire.global.clone().unwrap_or_default();
    let global = Global::try_from(global).map_err(Status::from)?;
    let unfit = |error: file::FileError| Status::internal(error.to_string());
    Ok(ListFilesReply {
        files,
        // a broken file says nothing that holds
        own: switches::own(own.text(), &users::uid).ok(),
        in_force: Some(switches::in_force(&global).map_err(unfit)?),
    })
}

fn ids(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<String> = names
        .filter(|name| !name.starts_with('.'))
        .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned))
        .collect();
    ids.sort();
    ids
}

fn told(id: String, owned: &Owned, problem: String) -> ProfileFile {
    let path = format!("{id}.toml");
    let name = file::parse_profile(&id, &path, owned.text(), &users::uid).map(|profile| profile.name);
    ProfileFile {
        name: name.unwrap_or_default(),
        toml: owned.text().to_owned(),
        revision: owned.revision(),
        problem,
        id,
    }
}

pub(super) fn changed(outcome: Outcome) -> ChangeReply {
    let lock_outs = outcome.lost.iter().map(|lost| LockOut {
        what: lost.what.clone(),
        before: Some((&lost.before).into()),
        after: Some((&lost.after).into()),
    });
    let effects = outcome
        .effects
        .into_iter()
        .map(|change::Effect { probe, before, after }| Effect {
            probe: u32::try_from(probe).unwrap_or(u32::MAX),
            before: Some(explained(before, probe)),
            after: Some(explained(after, probe)),
        });
    ChangeReply {
        lock_outs: lock_outs.collect(),
        effects: effects.collect(),
        before: Some(told(outcome.id.clone(), &outcome.before, String::new())),
        after: Some(told(outcome.id, &outcome.after, String::new())),
        diff: outcome.diff,
        warnings: outcome.warnings,
        saved: outcome.saved,
        policy_version: outcome.version,
        backup: outcome
            .backup
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
    }
}

/// Of the first probe in full; of live connections what is decided alone.
fn explained(explanation: Explanation, probe: usize) -> ExplainReply {
    ExplainReply {
        decision: Some((&explanation.decision).into()),
        policy_version: 0,
        steps: if probe == 0 { explanation.steps } else { Vec::new() },
    }
}

pub(super) fn refusal(error: &ChangeError) -> Status {
    let text = error.to_string();
    match error {
        ChangeError::Asked(_) | ChangeError::Text(_) | ChangeError::Edit(_) => Status::invalid_argument(text),
        ChangeError::Missing(_) => Status::not_found(text),
        ChangeError::Revision { .. } | ChangeError::File(crate::owned::FileError::Changed(_)) => {
            Status::aborted(text)
        }
        ChangeError::Compile(_)
        | ChangeError::LockedOut(_)
        | ChangeError::File(_)
        | ChangeError::NotInForce(_) => Status::failed_precondition(text),
        ChangeError::Stopping => Status::unavailable(text),
    }
}
