//! Carries a plan out, and takes it back: each change is on the record before it is begun, so that whatever interrupts this,
//! `disable` finds out what was done and what was not.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Error, Result, anyhow, bail};

use super::{
    facts,
    host::Host,
    kept::Kept,
    place::{Place, Root},
    plan::Plan,
    record::{Record, Step, keep_servers, put_aside},
    trouble::explain,
};

/// What became of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it was before.
    PutBack,
    /// It was as before already.
    AsBefore,
    /// Somebody made something of it that does not name us: it stays.
    Left,
    /// It is as before, and what somebody had made of it lies there.
    Aside(PathBuf),
}

/// Does all that `plan` says.
///
/// # Errors
/// What failed, after what was done is taken back; or both errors, and the record stays.
pub(super) async fn enable(root: &Root, host: &Host, plan: &Plan, record: Record) -> Result<()> {
    match change(root, host, plan, record).await {
        Ok(()) => Ok(()),
        Err(error) => match put_back(root, host, false).await {
            Ok(_) => Err(error.context("nothing was changed")),
            Err(also) => Err(anyhow!(
                "{error:#}; and what was done so far could not be taken back: {also:#}"
            )),
        },
    }
}

async fn change(root: &Root, host: &Host, plan: &Plan, mut record: Record) -> Result<()> {
    record.save(root)?;
    if !plan.servers.is_empty() {
        keep_servers(root, &plan.servers)?;
    }
    for (place, text) in &plan.changes {
        let path = root.place(*place);
        let step = Step {
            place: *place,
            before: Kept::read(&path)?,
            after: text.clone(),
            folders: missing_folders(root, Path::new(place.path())),
        };
        let ours = Kept::ours_for(&step.before, text);
        record.steps.push(step);
        record.save(root)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| explain(folder, error))?;
        }
        ours.put(&path)?;
        host.tell(*place).await?;
    }
    record.complete = true;
    record.save(root)
}

/// Absolute paths as the host sees them, outermost first.
fn missing_folders(root: &Root, path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    let mut missing: Vec<_> = above
        .take_while(|folder| !root.at(folder).exists())
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

/// How what was recorded stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// As it was written, all of it.
    Enabled,
    /// Something was not done, or taken back already.
    Interrupted,
    /// Somebody made something else of it.
    Edited,
}

impl State {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Interrupted => "interrupted",
            Self::Edited => "edited",
        }
    }
}

pub(super) fn state(root: &Root, record: &Record) -> Result<State> {
    if !edited(root, record)?.is_empty() {
        return Ok(State::Edited);
    }
    for step in &record.steps {
        let now = Kept::read(&root.place(step.place))?;
        if !now.is_like(&Kept::ours(&step.after)) {
            return Ok(State::Interrupted);
        }
    }
    Ok(if record.complete {
        State::Enabled
    } else {
        State::Interrupted
    })
}

/// Takes everything back, the last change first. Nothing to take back is no error. What is edited since is put back only
/// with `force`, and lies aside then; unless it does not name us any more: that is somebody else's, and stays.
///
/// # Errors
/// Before anything is changed: files that were edited since. After all that could be taken back was: what could not.
pub(super) async fn put_back(root: &Root, host: &Host, force: bool) -> Result<Vec<(Place, Outcome)>> {
    let Some(record) = Record::load(root)? else {
        return Ok(Vec::new());
    };
    let edited = edited(root, &record)?;
    if !edited.is_empty() && !force {
        bail!(
            "{} was edited since: nothing was put back; undo the edit, or put back what was there before with `portmaster dns \
             disable --force`, which keeps the edited file in /var/lib/portmaster",
            edited.join(" and ")
        );
    }
    let (mut outcomes, mut errors) = (Vec::new(), Vec::new());
    for step in record.steps.iter().rev() {
        match step_back(root, step, &record) {
            Ok(outcome) => outcomes.push((step.place, outcome)),
            Err(error) => errors.push(error),
        }
        // also where the file was as before: perhaps this was interrupted before the program heard of it
        if let Err(error) = host.tell(step.place).await {
            errors.push(error);
        }
    }
    if errors.is_empty() {
        Record::remove(root).context("everything is put back, but the record of it stays")?;
        return Ok(outcomes);
    }
    Err(joined(&errors))
}

fn joined(errors: &[Error]) -> Error {
    let texts: Vec<_> = errors.iter().map(|error| format!("{error:#}")).collect();
    anyhow!(
        "{}; what was there before is on record still: `portmaster dns disable` goes on",
        texts.join("; ")
    )
}

/// Paths that are neither as we wrote them nor as they were.
fn edited(root: &Root, record: &Record) -> Result<Vec<String>> {
    let mut edited = Vec::new();
    for step in &record.steps {
        let now = Kept::read(&root.place(step.place))?;
        if !now.is_like(&Kept::ours(&step.after)) && !now.is_like(&step.before) {
            edited.push(step.place.path().to_owned());
        }
    }
    Ok(edited)
}

fn step_back(root: &Root, step: &Step, record: &Record) -> Result<Outcome> {
    let path = root.place(step.place);
    let now = Kept::read(&path)?;
    let outcome = if now.is_like(&Kept::ours(&step.after)) {
        step.before.put(&path)?;
        Outcome::PutBack
    } else if now.is_like(&step.before) {
        Outcome::AsBefore
    } else if step.place.is_drop_in()
        || now == Kept::Absent
        || facts::names(root, step.place, &now, record.server)
    {
        let aside = if now == Kept::Absent {
            None
        } else {
            Some(put_aside(root, step.place, &now)?)
        };
        step.before.put(&path)?;
        aside.map_or(Outcome::PutBack, Outcome::Aside)
    } else {
        Outcome::Left
    };
    for folder in step.folders.iter().rev() {
        let folder = root.at(folder);
        match fs::remove_dir(&folder) {
            Err(error) if !is_used_or_gone(&error) => return Err(explain(&folder, error)),
            _ => {}
        }
    }
    Ok(outcome)
}

fn is_used_or_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
    )
}

#[cfg(test)]
mod tests;
