//! Changes of the owner's files: the policy service writes; here it is found out who asks, what lives and would be decided
//! otherwise, and what is noted of it.

use std::sync::Arc;

use api::v1::{Access, ChangeReply, ChangedConnection, Connection, ExplainConnectionRequest, LockOut};
use bytes::Bytes;
use prost::Message as _;
use proto::policy::v1::{self as policy, change_request::Change};
use tonic::{Request, Response, Status};
use verdict::policy::file;

use super::{BEHIND, Service, explained, passed_on, probes, question};
use crate::{audit::Note, rpc::caller, wire};

/// Live connections that a reply names.
const NAMED: usize = 100;

/// What is wanted of a file, whichever method asked for it.
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) change: Change,
    pub(super) expected_revision: Option<String>,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) explain: Option<ExplainConnectionRequest>,
}

impl Wanted {
    pub(super) fn of<T>(request: &Request<T>, read: impl FnOnce(&T) -> Self) -> Self {
        read(request.get_ref())
    }
}

impl Service {
    /// One file, which need not be there; "": all of them.
    pub(super) async fn files(&self, id: &str) -> Result<policy::ListFilesReply, Status> {
        let request = policy::ListFilesRequest { id: id.to_owned() };
        let reply = self.client().list_files(request).await;
        Ok(reply.map_err(passed_on(BEHIND))?.into_inner())
    }

    /// Who decides for programs does not decide for all of them, nor against a warning.
    pub(super) async fn ask_more<T>(
        &self,
        request: &Request<T>,
        wanted: &Wanted,
        method: &str,
    ) -> Result<(), Status> {
        if wanted.id != file::GLOBAL && !wanted.force {
            return Ok(());
        }
        let what = if wanted.force { "`force`" } else { "`global`" };
        let asked = format!("Policy/{method} with {what}");
        self.gate.require(Access::Admin, caller(request)?, &asked).await
    }

    pub(super) async fn change<T>(
        &self,
        request: &Request<T>,
        wanted: Wanted,
    ) -> Result<Response<ChangeReply>, Status> {
        let note = request.extensions().get::<Arc<Note>>();
        if let Some(note) = note {
            note.about(&wanted.id, wanted.dry_run);
        }
        let caller = caller(request)?;
        let asked = match wanted.explain {
            Some(asked) => Some(question(asked)?),
            None => None,
        };
        let was_asked = asked.is_some();
        let process = caller.peer.process(self.gate.resolver()).await;
        let (probes, live) = probes::of(asked, process, &caller.peer, self.hub.live(0));
        let request = policy::ChangeRequest {
            id: wanted.id,
            change: Some(wanted.change),
            expected_revision: wanted.expected_revision,
            force: wanted.force,
            dry_run: wanted.dry_run,
            probes,
        };
        let reply = self.client().change(request).await;
        let reply = reply.map_err(passed_on(BEHIND))?.into_inner();
        if let Some(note) = note {
            note.changed(&reply);
        }
        Ok(Response::new(told(reply, was_asked, &live)))
    }
}

/// `live`: which connection each probe was made of, if any.
fn told(reply: policy::ChangeReply, was_asked: bool, live: &[Option<Bytes>]) -> ChangeReply {
    let (mut explained_before, mut explained_after) = (None, None);
    let (mut connections, mut connections_changed) = (Vec::new(), 0);
    for effect in reply.effects {
        let number = usize::try_from(effect.probe).unwrap_or(usize::MAX);
        if number == 0 && was_asked {
            explained_before = effect.before.map(explained);
            explained_after = effect.after.map(explained);
        } else if let Some(Some(connection)) = live.get(number)
            && differ(&effect.before, &effect.after)
        {
            connections_changed += 1;
            if connections.len() < NAMED {
                connections.push(ChangedConnection {
                    connection: Connection::decode(connection.clone()).ok(),
                    after: effect.after.and_then(|after| after.decision).map(wire::decision),
                });
            }
        }
    }
    let lock_outs = reply.lock_outs.into_iter().map(|lost| LockOut {
        what: lost.what,
        before: lost.before.map(wire::decision),
        after: lost.after.map(wire::decision),
    });
    ChangeReply {
        before: reply.before,
        after: reply.after,
        diff: reply.diff,
        lock_outs: lock_outs.collect(),
        warnings: reply.warnings,
        explained_before,
        explained_after,
        connections,
        connections_changed,
        saved: reply.saved,
        policy_version: reply.policy_version,
        backup: reply.backup,
    }
}

fn differ(before: &Option<policy::ExplainReply>, after: &Option<policy::ExplainReply>) -> bool {
    let verdict = |reply: &Option<policy::ExplainReply>| {
        reply
            .as_ref()
            .and_then(|reply| Some(reply.decision.as_ref()?.verdict))
    };
    verdict(before) != verdict(after)
}
