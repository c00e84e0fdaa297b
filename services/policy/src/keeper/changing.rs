//! Changes of the files themselves, one after the other.

use std::collections::HashSet;

use anyhow::Context as _;
use daemon::users;

use super::Keeper;
use crate::{
    book::{Book, Changed},
    change::{Change, ChangeError, Outcome, Plan, Where},
};

impl Keeper {
    /// Plans a change by what the files say now, and makes it unless it is only tried. The outer error is our own end.
    pub(super) async fn change(&mut self, change: Change) -> anyhow::Result<Result<Outcome, ChangeError>> {
        let Some(folder) = self.book.as_ref().map(Book::folder) else {
            return Ok(Err(ChangeError::Stopping));
        };
        let (folder, current) = (folder.to_owned(), self.current.clone());
        // reads, parses, writes and waits for the disk
        let made = tokio::task::spawn_blocking(move || {
            let on = Where {
                folder: &folder,
                current: &current,
                users: &users::uid,
                is_there: &|path| path.exists(),
                now: daemon::clock::now(),
            };
            let mut plan = Plan::new(&change, &on)?;
            if change.dry_run {
                return Ok(plan);
            }
            if !plan.outcome.lost.is_empty() && !change.force {
                return Err(ChangeError::LockedOut(plan.outcome.lost));
            }
            let outcome = &mut plan.outcome;
            if outcome.before != outcome.after {
                outcome.backup = outcome.before.replace(&plan.path, &outcome.after)?;
            }
            outcome.saved = true;
            Ok(plan)
        });
        let mut plan = match made.await.context("change a profile")? {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error)),
        };
        if plan.outcome.saved {
            let path = HashSet::from([plan.path.clone()]);
            self.scan(Changed::Paths(path)).await?;
            plan.outcome.version = self.current.version;
            let refused = self.refused.borrow();
            if let Some((_, refused)) = refused.iter().find(|(path, _)| *path == plan.path) {
                return Ok(Err(ChangeError::NotInForce(refused.error.clone())));
            }
            let (id, version) = (&plan.outcome.id, plan.outcome.version);
            tracing::info!(target: "audit", id, version, "profile changed through the API");
        }
        Ok(Ok(plan.outcome))
    }
}
