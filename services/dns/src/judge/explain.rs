//! What would be done with a query, for whoever asks why.

use dns_core::{Name, special::Outcome};
use verdict::policy::ProfileRef;

use super::{Judge, is_local, written::special_decision};
use crate::filter::{self, Judged, Who};

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    /// What would become of a name, asked by nobody in particular; and how that comes about, line by line.
    pub fn explain(&self, profile: ProfileRef, name: &Name, kind: u16) -> (Judged, Vec<String>) {
        let policy = self.policy.load();
        let who = Who {
            policy: &policy,
            profile,
            uid: None,
            now: daemon::clock::now(),
        };
        let mut steps = Vec::new();
        if let Outcome::Answered(answered) = self.special(&who, name, kind) {
            steps.push(format!("a special name: {}", answered.why));
            return (special_decision(&who), steps);
        }
        let question = dns_core::Question {
            name: name.clone(),
            kind,
            class: 1,
        };
        let (servers, route) = self.lookup.router().responsible(&question);
        let is_local = is_local(route);
        let judged = filter::question(&who, name, is_local, &**self.lists.load());
        let source = &judged.decision.source;
        let by = match &judged.list {
            Some(list) => format!("list {list:?} has it, and {source} filters by it"),
            None => format!("{source} decides ({})", judged.decision.why),
        };
        steps.push(format!("{}: {by}", judged.decision.verdict.text()));
        if judged.passes() {
            let servers = match servers.as_slice() {
                [] => "nobody".to_owned(),
                servers => servers.join(", "),
            };
            steps.push(format!("{servers} would be asked: {}", route.text()));
        }
        (judged, steps)
    }
}
