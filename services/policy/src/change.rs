//! A change of the owner's files, asked for through the API: what it would do, and then whether it is done.
//!
//! Invariant: a file is written only if it parses, compiles together with all others, is still the one that whoever asks has seen,
//! and locks nobody out unless he insists.

mod plan;

use std::path::PathBuf;

use proto::policy::v1::{ChangeRequest, NewMatch, NewRule, Switches, change_request};
use tokio::sync::oneshot;
use verdict::{
    Flow, Process,
    policy::{CompileError, Explanation, file},
};

use crate::{edit::EditError, lockout::Lost, owned};
pub(crate) use plan::{Plan, Where};

/// As many as a message may hold.
const PROBES: usize = 10_000;

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Change {
    /// Of the file; "": see [`Edit::AddRule`].
    pub(crate) id: String,
    pub(crate) edit: Edit,
    pub(crate) expected_revision: Option<String>,
    pub(crate) force: bool,
    pub(crate) dry_run: bool,
    pub(crate) probes: Vec<Probe>,
}

#[derive(Debug)]
pub(crate) enum Edit {
    Write(String),
    Remove,
    /// In the profile that has this match alone, where no id is given.
    AddRule {
        rule: Box<NewRule>,
        number: u32,
        of: Option<Box<NewMatch>>,
    },
    RemoveRule(u32),
    SetSwitches(Box<Switches>, Vec<String>),
}

/// A connection to judge before and after.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) process: Option<Process>,
    pub(crate) flow: Flow,
    pub(crate) domain: String,
    /// What is lost with it; "": nothing that locks out.
    pub(crate) vital: String,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("{0}")]
    Asked(String),
    #[error("{0}")]
    Text(#[from] file::FileError),
    #[error("{0}")]
    Edit(#[from] EditError),
    #[error("there is no profile {0:?}")]
    Missing(String),
    #[error("{what}; read it again, and ask with this revision")]
    Revision { what: String },
    #[error("all files together cannot be put in force: {0}")]
    Compile(#[from] CompileError),
    #[error("{}", locked(.0))]
    LockedOut(Vec<Lost>),
    #[error("{0}")]
    File(#[from] owned::FileError),
    #[error("the file is written, but cannot be put in force: {0}")]
    NotInForce(String),
    #[error("policy is stopping; ask again when it runs")]
    Stopping,
}

fn locked(lost: &[Lost]) -> String {
    let lost: Vec<String> = lost
        .iter()
        .map(|lost| format!("{}, by {}", lost.what, crate::lockout::said(&lost.after)))
        .collect();
    format!(
        "this would lock you out: {} would be refused; `force` does it all the same",
        lost.join("; ")
    )
}

/// What came of it, or would.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) before: owned::Owned,
    pub(crate) after: owned::Owned,
    pub(crate) diff: String,
    pub(crate) lost: Vec<Lost>,
    pub(crate) warnings: Vec<String>,
    /// Of the first probe, and of those that are decided otherwise.
    pub(crate) effects: Vec<Effect>,
    pub(crate) saved: bool,
    /// In force, once it is saved.
    pub(crate) version: u64,
    pub(crate) backup: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Effect {
    pub(crate) probe: usize,
    pub(crate) before: Explanation,
    pub(crate) after: Explanation,
}

/// With whom to answer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) change: Change,
    pub(crate) done: oneshot::Sender<Result<Outcome, ChangeError>>,
}

impl TryFrom<ChangeRequest> for Change {
    type Error = tonic::Status;

    fn try_from(wire: ChangeRequest) -> Result<Self, tonic::Status> {
        let missing = |what: &str| tonic::Status::invalid_argument(format!("{what} is missing"));
        let edit = match wire.change.ok_or_else(|| missing("change"))? {
            change_request::Change::Toml(text) => Edit::Write(text),
            change_request::Change::Remove(_) => Edit::Remove,
            change_request::Change::AddRule(asked) => Edit::AddRule {
                rule: Box::new(asked.rule.ok_or_else(|| missing("rule"))?),
                number: asked.number,
                of: asked.r#match.map(Box::new),
            },
            change_request::Change::RemoveRule(asked) => Edit::RemoveRule(asked.number),
            change_request::Change::SetSwitches(asked) => {
                let switches = asked.switches.ok_or_else(|| missing("settings"))?;
                Edit::SetSwitches(Box::new(switches), asked.fields)
            }
        };
        if wire.probes.len() > PROBES {
            return Err(tonic::Status::invalid_argument(format!(
                "more than {PROBES} probes"
            )));
        }
        let probe = |wire: proto::policy::v1::Probe| {
            let question = wire.question.ok_or_else(|| missing("question"))?;
            let flow = question.flow.ok_or_else(|| missing("flow"))?;
            Ok::<_, tonic::Status>(Probe {
                process: question.process.map(Process::try_from).transpose()?,
                flow: Flow::try_from(flow)?,
                domain: question.domain,
                vital: wire.vital,
            })
        };
        Ok(Self {
            id: wire.id,
            edit,
            expected_revision: wire.expected_revision,
            force: wire.force,
            dry_run: wire.dry_run,
            probes: wire.probes.into_iter().map(probe).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests;
