//! The heart: parse → who → name → decide → mark → tell.
//!
//! A state machine without IO: packets, answers and time come in as arguments; verdicts, questions and events go out in
//! [`Effects`]. Every packet that comes in gets exactly one verdict, at the latest when its flow's deadline passes.
//!
//! | state of a flow | a packet of it |
//! |---|---|
//! | unknown | waits; the process is asked for |
//! | pending | waits with the others of its flow; dropped, this once, where the resolver has too much to do |
//! | waiting for the rest of a QUIC hello | waits with the others of its flow, and is looked into |
//! | waiting for its name otherwise | passes, once, and is looked into |
//! | to be tunnelled, by TCP | waits for the far end's answer |
//! | decided | gets the decision's mark at once |

use std::{sync::Arc, time::Duration};

use verdict::{
    Decision, Direction, Flow, Mark, Verdict, Why,
    mark::MarkScheme,
    packet::{Hook, Packet},
    policy::CompiledPolicy,
};

mod afterwards;
mod attribution;
mod effects;
mod flows;
mod limits;
mod naming;
mod opening;
mod pending;
mod said;
mod tunnel;

pub use attribution::{Answer, Attribution, Miss};
pub use effects::{Connection, Effects, Event, EventKind, Question, ToTunnel, Totals, VerdictFor};
pub use limits::{Arrival, Counts, Limits, Now};
pub use pending::Waiting;
pub use tunnel::{OpenAnswer, Refusal, Through};

use crate::{
    conntrack::{Origin, Way},
    told::Names,
};
use attribution::Processes;
use flows::{Flows, Key, State, Tracked};
use naming::Domains;
use opening::Openings;
use pending::{Asked, Joined, Pending};
use said::Said;
use tunnel::Concluded;

/// See the module's head.
#[derive(Debug)]
pub struct Judge {
    limits: Limits,
    scheme: MarkScheme,
    policy: Arc<CompiledPolicy>,
    mesh_uids: Vec<u32>,
    names: Names,
    processes: Processes,
    pending: Pending,
    openings: Openings,
    flows: Flows,
    counts: Counts,
    /// When the resolver answered last, on its present stream.
    answered: Option<Duration>,
    /// When the pause that holds now ends.
    pause_ends: Option<Duration>,
    next_id: u64,
}

impl Judge {
    /// `first_id`: connections are numbered from here. `mesh_uids`: whose outgoing traffic is the mesh's own. `names`: what
    /// programs were told by the DNS service.
    pub fn new(
        limits: Limits,
        scheme: MarkScheme,
        policy: Arc<CompiledPolicy>,
        mesh_uids: Vec<u32>,
        names: Names,
        first_id: u64,
    ) -> Self {
        Self {
            limits,
            scheme,
            policy,
            mesh_uids,
            names,
            processes: Processes::default(),
            pending: Pending::default(),
            openings: Openings::default(),
            flows: Flows::default(),
            counts: Counts::default(),
            answered: None,
            // armed as soon as time is known
            pause_ends: Some(Duration::ZERO),
            next_id: first_id,
        }
    }

    /// What was counted so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Flows remembered, and flows waiting.
    pub fn sizes(&self) -> (usize, usize) {
        (self.flows.len(), self.pending.len() + self.openings.len())
    }

    /// A packet came in. `origin` tells what established connection it belongs to (conntrack).
    pub fn on_packet(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        origin: impl FnOnce(&Flow) -> Option<Origin>,
        effects: &mut Effects,
    ) {
        self.counts.packets += 1;
        self.end_pause(now, effects);
        let packet = match Packet::parse(arrival.bytes) {
            Ok(packet) => packet,
            Err(malformed) => {
                self.counts.unparsable += 1;
                tracing::trace!(%malformed, why = Why::Unparsable.text(), "packet dropped");
                return effects.verdict(arrival.waiting, self.wire(Mark::DROP_ONCE, arrival.waiting.mark));
            }
        };
        let default_direction = match arrival.hook {
            Hook::Output => Direction::Outgoing,
            Hook::Input => Direction::Incoming,
        };
        let seen = packet.flow(arrival.hook, default_direction);
        if self.settle_known(now, &packet, &seen, arrival, effects) {
            return;
        }
        let origin = packet.may_be_reply().then(|| origin(&seen)).flatten();
        let origin = origin.unwrap_or(Origin {
            flow: seen,
            way: Way::New,
        });
        // an answer of this host's own server, to a program that meant another one
        let is_other = Key::of(&origin.flow) != Key::of(&seen);
        if is_other && self.settle_known(now, &packet, &origin.flow, arrival, effects) {
            return;
        }
        self.open(now, &packet, origin, arrival, effects);
    }

    /// Answers from what is known of the packet's flow; false where nothing is.
    fn settle_known(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        seen: &Flow,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) -> bool {
        let key = Key::of(seen);
        let (most, said) = (self.limits.pending_packets, said::beginning(packet, seen));
        if let Some(joined) = self.pending.join(&key, arrival.waiting, most, said) {
            match joined {
                Joined::Waits => {}
                Joined::Full => self.overload(arrival, effects),
                Joined::Heard(request_id) => self.hear_more(now, request_id, effects),
            }
            return true;
        }
        if self.join_opening(&key, packet, arrival, effects) {
            return true;
        }
        let Some((key, tracked)) = self.flows.find(key, seen.scope()) else {
            return false;
        };
        let other_owner =
            arrival.uid.is_some() && key == Key::of(&tracked.flow) && arrival.uid != tracked.who.uid;
        if tracked.is_reopened_by(packet) || (other_owner && tracked.who.uid.is_some()) {
            return false;
        }
        if let State::NameWanted { .. } = tracked.state {
            return self.look_for_name(now, key, packet, arrival, effects);
        }
        if tracked.decision.verdict == Verdict::Tunnel {
            return self.tunnelled_again(now, key, packet, arrival, effects);
        }
        if !tracked.decision.verdict.passes()
            && !tunnel::is_undeliverable(&tracked.decision)
            && packet.tcp().is_none_or(|tcp| tcp.opens())
            && !tracked.retransmits(packet)
        {
            return false; // whoever sends this now may be somebody else
        }
        let mark = tunnel::mark_by(&tracked.decision, arrival.hook);
        effects.verdict(arrival.waiting, self.wire(mark, arrival.waiting.mark));
        true
    }

    /// A flow begins: ask who it is.
    fn open(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        Origin { flow, way }: Origin,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) {
        let asked = Asked {
            flow,
            way,
            uid: arrival.uid,
            initial_sequence: packet.tcp().filter(|tcp| tcp.opens()).map(|tcp| tcp.sequence),
            payload: packet.payload.first_chunk::<1>().is_some(),
        };
        if flow.direction == Direction::Outgoing
            && arrival.uid.is_some_and(|uid| self.mesh_uids.contains(&uid))
        {
            let who = Attribution {
                uid: arrival.uid,
                ..Attribution::default()
            };
            let concluded = Concluded {
                who: Arc::new(who),
                decision: decision_of_the_mesh(),
                domains: Domains::default(),
                id: None,
                through: None,
            };
            return self.conclude(now, &asked, concluded, &[arrival.waiting], effects);
        }
        let uid = arrival.uid;
        let crowded = self.pending.len() >= self.limits.pending_flows;
        if crowded || self.pending.of_uid(uid) >= self.limits.pending_flows / 2 {
            // the user who fills the room makes room: for the newcomer, who is still heard in time
            match self.pending.take_oldest(uid) {
                Some(oldest) => self.give_up(&oldest.waiting, effects),
                None => return self.overload(arrival, effects),
            }
        }
        let said = said::beginning(packet, &flow);
        if !self.pending.has_room_for(said) {
            return self.overload(arrival, effects);
        }
        let deadline = now.monotonic + self.limits.attribution_deadline;
        self.pending
            .insert(asked, arrival.waiting, Said::new(said), deadline);
        self.ask(effects);
    }

    fn ask(&mut self, effects: &mut Effects) {
        let hash = self.policy.needs_hash();
        while let Some(question) = self.pending.next_question(self.limits.questions, hash) {
            effects.questions.push(question);
        }
    }

    /// The resolver answered.
    pub fn on_answer(&mut self, now: Now, answer: Answer, effects: &mut Effects) {
        self.answered = Some(now.monotonic);
        self.withdraw_ended(&answer.ended, effects);
        let (request, timeout) = (answer.request_id, answer.miss == Some(Miss::Timeout));
        let who = self.processes.learn(answer);
        match self.pending.take(request) {
            // too much to look for, perhaps on purpose: nothing passes for that
            Some(taken) if timeout => self.give_up(&taken.waiting, effects),
            Some(taken) => self.attributed(now, taken, who, effects),
            None => {}
        }
        self.ask(effects);
    }

    /// The resolver searches for this one: its answer comes later, others may be asked for meanwhile.
    pub fn on_searching(&mut self, now: Now, request_id: u64, effects: &mut Effects) {
        self.answered = Some(now.monotonic);
        self.pending.takes_longer(request_id);
        self.ask(effects);
    }

    /// The resolver's stream began anew: what it said before means nothing, what waits is asked again.
    pub fn on_resolver_restart(&mut self, effects: &mut Effects) {
        self.processes.clear();
        self.pending.forget_questions();
        self.ask(effects);
    }

    /// The resolver's stream ended: nothing is to be expected of it.
    pub fn on_resolver_lost(&mut self) {
        self.answered = None;
    }

    /// When [`Self::on_time`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.pending.next_deadline(),
            self.openings.next_deadline(),
            self.flows.next_deadline(),
            self.pause_ends,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Time passed.
    pub fn on_time(&mut self, now: Now, effects: &mut Effects) {
        self.end_pause(now, effects);
        // a resolver that answers others and not this one is overloaded, perhaps on purpose: nothing passes for that
        let patience = self.limits.attribution_deadline;
        let answers = self
            .answered
            .is_some_and(|last| now.monotonic.saturating_sub(last) < patience);
        while let Some(taken) = self.pending.take_late(now.monotonic) {
            if taken.who.is_some() {
                self.give_up_unnamed(&taken.waiting, effects);
                continue;
            }
            self.counts.late += u64::from(taken.was_out);
            if answers {
                self.give_up(&taken.waiting, effects);
                continue;
            }
            let who = Attribution {
                miss: Some(Miss::Timeout),
                uid: taken.asked.uid,
                ..Attribution::default()
            };
            self.attributed(now, taken, Arc::new(who), effects);
        }
        self.end_late_openings(now, effects);
        self.ask(effects);
        for (key, was_waiting_for_name) in self.flows.take_late(now.monotonic) {
            if was_waiting_for_name {
                self.settle_name(now, key, None, effects);
            }
        }
    }

    /// Marks what waits, remembers the flow, tells of it.
    fn conclude(
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

    fn overload(&mut self, arrival: &Arrival<'_>, effects: &mut Effects) {
        self.give_up(&[arrival.waiting], effects);
    }

    /// Drops these, this once: their next packet is asked anew.
    fn give_up(&mut self, waiting: &[Waiting], effects: &mut Effects) {
        for packet in waiting {
            self.counts.overload += 1;
            tracing::trace!(why = Why::Overload.text(), "packet dropped");
            effects.verdict(*packet, self.wire(Mark::DROP_ONCE, packet.mark));
        }
    }

    const fn wire(&self, mark: Mark, current: u32) -> u32 {
        self.scheme.apply(mark, current)
    }

    const fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

fn decision_of_the_mesh() -> Decision {
    Decision {
        verdict: Verdict::Allow,
        why: Why::Mesh,
        source: Arc::default(),
        profile: Arc::default(),
        permanent: true,
    }
}

#[cfg(test)]
mod tests;
