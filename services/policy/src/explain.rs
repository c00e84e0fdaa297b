//! What would happen to a connection: one answer, whoever asks.

use verdict::{
    Flow, Process,
    policy::{Explanation, Facts},
};

use crate::in_force::InForce;

/// By this snapshot, now. No process: it could not be found. `domain`: the name asked for; "" where there is none.
pub(crate) fn explain(
    in_force: &InForce,
    process: Option<&Process>,
    flow: Flow,
    domain: &str,
) -> Explanation {
    let policy = &in_force.compiled;
    let domain = domain.trim_end_matches('.').to_ascii_lowercase();
    let domains = [domain.as_str()];
    let facts = Facts {
        flow,
        scope: flow.scope(),
        uid: process.map(|process| process.uid),
        domains: if domain.is_empty() { &[] } else { &domains },
        dns_is_served: true,
        now: daemon::clock::now(),
    };
    policy.explain(policy.profile_for(process), &facts)
}
