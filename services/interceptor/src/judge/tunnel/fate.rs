//! What decisions about the tunnel mean for packets and for flows that live.

use std::sync::Arc;

use verdict::{Decision, Mark, Protocol, Verdict, Why, packet::Hook};

use super::{Concluded, Through};
use crate::judge::flows::Tracked;

pub(super) const LATE: &str = "it was open directly before it was to be tunnelled";

/// What a new decision means for a flow that lives: a TCP connection that was opened directly stays what it is, and so is
/// refused where it is to be tunnelled.
pub(in crate::judge) fn for_live(tracked: &Tracked, decision: Decision) -> (Decision, Option<Arc<Through>>) {
    let is_inside = tracked
        .through
        .as_ref()
        .is_some_and(|through| !through.hops.is_empty());
    let enters = decision.verdict == Verdict::Tunnel && tracked.decision.verdict != Verdict::Tunnel;
    if enters && !is_inside && tracked.flow.protocol == Protocol::TCP {
        (late(&decision), problem(LATE))
    } else {
        let through = tracked.through.clone().filter(|_| is_inside);
        (decision, through)
    }
}

/// The kernel's translation of a datagram's flow is for its life: where it is to go another way, it has to begin anew.
pub(in crate::judge) fn begins_anew(protocol: Protocol, before: &Decision, after: &Decision) -> bool {
    let redirected = |decision: &Decision| matches!(decision.verdict, Verdict::Tunnel | Verdict::RedirectDns);
    protocol == Protocol::UDP && (redirected(before) || redirected(after))
}

/// The mark for a packet that came by this hook.
pub(in crate::judge) const fn mark_by(decision: &Decision, hook: Hook) -> Mark {
    match (decision.why, hook) {
        // our side answers what the other end sends, and that answer is refused with an error, which the program hears
        (Why::TunnelLate, Hook::Input) => Mark::ACCEPT_ONCE,
        _ => Mark::of(decision),
    }
}

/// Refused since its packets do not get into the tunnel.
pub(in crate::judge) const fn is_undeliverable(decision: &Decision) -> bool {
    matches!(decision.why, Why::TunnelUnsupported) && !decision.permanent
}

pub(super) fn refused(concluded: Concluded, how: fn(&Decision) -> Decision, text: &str) -> Concluded {
    Concluded {
        decision: how(&concluded.decision),
        through: problem(text),
        ..concluded
    }
}

pub(super) fn through(hops: Vec<String>) -> Option<Arc<Through>> {
    let problem = String::new();
    Some(Arc::new(Through { hops, problem }))
}

pub(super) fn problem(text: &str) -> Option<Arc<Through>> {
    Some(Arc::new(Through {
        hops: Vec::new(),
        problem: text.to_owned(),
    }))
}

/// Never for good: the next try may succeed.
fn once(decision: &Decision, verdict: Verdict, why: Why) -> Decision {
    Decision {
        verdict,
        why,
        permanent: false,
        ..decision.clone()
    }
}

pub(super) fn late(decision: &Decision) -> Decision {
    once(decision, Verdict::Block, Why::TunnelLate)
}

pub(super) fn unavailable(decision: &Decision) -> Decision {
    once(decision, Verdict::Block, Why::TunnelUnavailable)
}

pub(super) fn unsupported(decision: &Decision) -> Decision {
    once(decision, Verdict::Block, Why::TunnelUnsupported)
}

pub(super) fn said(decision: &Decision) -> Decision {
    once(decision, Verdict::Block, Why::TunnelRefused)
}

pub(super) fn silent(decision: &Decision) -> Decision {
    once(decision, Verdict::Drop, Why::TunnelRefused)
}
