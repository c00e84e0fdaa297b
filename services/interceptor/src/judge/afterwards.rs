//! What happens to flows after they were decided: the policy changes, they end, or they end unheard.

use std::{collections::HashSet, sync::Arc};

use verdict::{Direction, Mark, Verdict, Why, policy::CompiledPolicy};

use super::{
    Connection, Effects, EventKind, Judge, Now, Totals,
    flows::{Key, State, Tracked},
    limits::CONFIRMED_BY_THEN,
    tunnel,
};
use crate::conntrack::Entry;

impl Judge {
    /// A new policy is in force: live flows are decided anew, and those whose fate changed lose their mark, so that their
    /// next packet is queued.
    pub fn on_policy(&mut self, now: Now, policy: Arc<CompiledPolicy>, effects: &mut Effects) {
        self.policy = policy;
        self.processes.forget_profiles();
        self.arm_pause(now);
        self.redecide_openings(now, effects);
        for key in self.flows.forget_refusals() {
            self.redecide(now, key, effects);
        }
    }

    /// A pause ends by itself, whether policy says so or not, and also where the clock was set.
    pub(super) fn end_pause(&mut self, now: Now, effects: &mut Effects) {
        let Some(ends) = self.pause_ends else { return };
        if now.monotonic < ends && self.policy.paused(now.clocks()).is_some() {
            return;
        }
        self.arm_pause(now);
        if self.pause_ends.is_none() {
            for key in self.flows.forget_refusals() {
                self.redecide(now, key, effects);
            }
        }
    }

    fn arm_pause(&mut self, now: Now) {
        let clocks = now.clocks();
        let rest = self.policy.paused(clocks).and_then(|pause| pause.rest(clocks));
        self.pause_ends = rest.map(|rest| now.monotonic + rest);
    }

    /// Connections that the process before this one let pass, and that live on; call before the first packet. Those that the
    /// policy in force would decide otherwise are decided anew.
    pub fn restore(
        &mut self,
        now: Now,
        connections: impl IntoIterator<Item = Connection>,
        effects: &mut Effects,
    ) {
        for connection in connections {
            if !connection.decision.verdict.passes() || self.flows.len() >= self.limits.tracked_flows {
                continue;
            }
            let key = Key::of(&connection.flow);
            let tracked = Tracked {
                id: connection.id,
                flow: connection.flow,
                started: connection.started,
                began: now.monotonic,
                lived: now.wall.duration_since(connection.started).unwrap_or_default(),
                initial_sequence: None,
                state: State::Settled,
                who: connection.who,
                domains: connection.domain.into_iter().collect(),
                carried: connection.decision.verdict == Verdict::Tunnel,
                decision: connection.decision,
                through: connection.through,
            };
            self.flows.insert(key, tracked);
            self.redecide(now, key, effects);
        }
    }

    fn redecide(&mut self, now: Now, key: Key, effects: &mut Effects) {
        let Some(tracked) = self.flows.get(&key) else {
            return;
        };
        if tracked.decision.why == Why::Mesh {
            return;
        }
        let decision = self.decide(now, &tracked.flow, &tracked.who, &tracked.domains, false);
        let (decision, through) = tunnel::for_live(tracked, decision);
        if decision == tracked.decision {
            return;
        }
        let fate_changed = Mark::of(&decision) != Mark::of(&tracked.decision);
        let anew = tunnel::begins_anew(tracked.flow.protocol, &tracked.decision, &decision);
        let state = State::Settled;
        let Some(tracked) = self.flows.set(&key, decision, state) else {
            return;
        };
        tracked.through = through;
        if fate_changed {
            if anew {
                effects.anew.push(tracked.flow);
            } else {
                effects.resets.push(tracked.flow);
            }
            effects.tell(EventKind::Redecided, now, tracked.connection());
        }
    }

    /// Whether this connection, seen in conntrack, is remembered here.
    pub fn tracks(&self, entry: &Entry) -> bool {
        self.flows.of_entry(entry).is_some()
    }

    /// Conntrack forgot a connection.
    pub fn on_end(&mut self, now: Now, entry: &Entry, effects: &mut Effects) {
        let Some(key) = self.flows.of_entry(entry) else {
            return;
        };
        let Some(tracked) = self.flows.end(&key) else {
            return;
        };
        let mut connection = tracked.connection();
        let outgoing = tracked.flow.direction == Direction::Outgoing;
        let (sent, received) = if outgoing {
            (entry.sent, entry.received)
        } else {
            (entry.received, entry.sent)
        };
        let duration = tracked.age(now.monotonic);
        connection.totals = Some(Totals {
            sent,
            received,
            duration,
        });
        effects.tell(EventKind::Ended, now, connection);
    }

    /// `entries` is all that conntrack has with one of our marks: what is remembered since long ago and not among them is over,
    /// with nobody knowing what it carried.
    pub fn reconcile(&mut self, now: Now, entries: &[Entry], effects: &mut Effects) {
        let alive: HashSet<Key> = entries
            .iter()
            .filter_map(|entry| self.flows.of_entry(entry))
            .collect();
        let then = now.monotonic.saturating_sub(CONFIRMED_BY_THEN);
        for tracked in self.flows.take_replaced_before(then) {
            self.end_unheard(now, &tracked, effects);
        }
        for key in self.flows.settled_before(then) {
            if alive.contains(&key) {
                continue;
            }
            if let Some(tracked) = self.flows.remove(&key) {
                self.end_unheard(now, &tracked, effects);
            }
        }
    }

    /// It is over, and nobody knows what it carried.
    pub(super) fn end_unheard(&self, now: Now, tracked: &Tracked, effects: &mut Effects) {
        let mut connection = tracked.connection();
        let duration = tracked.age(now.monotonic);
        connection.totals = Some(Totals {
            duration,
            ..Totals::default()
        });
        effects.tell(EventKind::Ended, now, connection);
    }
}
