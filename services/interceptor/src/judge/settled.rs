//! Decide, mark, tell: a flow is settled, or its packets are given up.

use std::{sync::Arc, time::Duration};

use verdict::{Decision, Mark, Verdict, Why};

use super::{
    Arrival, Effects, EventKind, Judge, Now, Waiting,
    flows::{Key, State, Tracked},
    pending::Asked,
    tunnel::{self, Concluded},
};

impl Judge {
    /// Marks what waits, remembers the flow, tells of it.
    pub(super) fn conclude(
        &mut self,
        now: Now,
        asked: &Asked,
        concluded: Concluded,
        waiting: &[Waiting],
        effects: &mut Effects,
    ) {
        let Concluded {
            who,
            decision,
            domains,
            id,
            through,
        } = concluded;
        for packet in waiting {
            let mark = tunnel::mark_by(&decision, packet.hook);
            effects.verdict(*packet, self.wire(mark, packet.mark));
        }
        self.counts.decided += 1;
        let key = Key::of(&asked.flow);
        let again = self.flows.repeats(&key, &who, &decision);
        let tracked = Tracked {
            id: match again.or(id) {
                Some(id) => id,
                None => self.number(),
            },
            flow: asked.flow,
            started: now.wall,
            began: now.monotonic,
            lived: Duration::ZERO,
            initial_sequence: asked.initial_sequence,
            state: State::after(&decision, now.monotonic, &self.limits),
            who,
            domains,
            decision,
            through,
            carried: false,
        };
        if again.is_none() && tracked.decision.why != Why::NameWanted {
            effects.tell(EventKind::Decided, now, tracked.connection());
        }
        if self.flows.len() < self.limits.tracked_flows || self.flows.contains(&key) {
            if let Some(old) = self.flows.insert(key, tracked) {
                self.end_unheard(now, &old, effects);
            }
        } else {
            self.counts.untracked += 1;
        }
    }

    pub(super) fn overload(&mut self, arrival: &Arrival<'_>, effects: &mut Effects) {
        self.give_up(&[arrival.waiting], effects);
    }

    /// Drops these, this once: their next packet is asked anew.
    pub(super) fn give_up(&mut self, waiting: &[Waiting], effects: &mut Effects) {
        for packet in waiting {
            self.counts.overload += 1;
            tracing::trace!(why = Why::Overload.text(), "packet dropped");
            effects.verdict(*packet, self.wire(Mark::DROP_ONCE, packet.mark));
        }
    }
}

pub(super) fn decision_of_the_mesh() -> Decision {
    Decision {
        verdict: Verdict::Allow,
        why: Why::Mesh,
        source: Arc::default(),
        profile: Arc::default(),
        permanent: true,
    }
}
