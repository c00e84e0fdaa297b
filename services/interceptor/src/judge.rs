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
//!
//! In the order of the story: packets come in here; `answers`: who; `naming`: by which name, and the decision; `settled`: mark
//! and tell; `tunnel`: what waits for the far end first; `afterwards`: what becomes of a flow later.

use std::{sync::Arc, time::Duration};

use verdict::{
    Direction, Flow, Mark, Verdict, Why,
    mark::MarkScheme,
    packet::{Hook, Packet},
    policy::CompiledPolicy,
};

mod afterwards;
mod answers;
mod attribution;
mod effects;
mod flows;
mod limits;
mod naming;
mod opening;
mod pending;
mod said;
mod settled;
mod tunnel;

pub use attribution::{Answer, Attribution, Miss};
pub use effects::{Carrying, Connection, Effects, Event, EventKind, Question, ToTunnel, Totals, VerdictFor};
pub use limits::{Arrival, Counts, Limits, Now};
pub use pending::Waiting;
pub use tunnel::{OpenAnswer, Refusal, Through};

use crate::{
    conntrack::{Origin, Way},
    told::Names,
};
use attribution::Processes;
use flows::{Flows, Key, State};
use naming::Domains;
use opening::Openings;
use pending::{Asked, Joined, Pending};
use said::Said;
use settled::decision_of_the_mesh;
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
    /// There is a stream to it.
    has_resolver: bool,
    /// Until then nobody is decided, or dropped, for want of its answer: it is being restarted, or has just been asked anew.
    resolver_by: Duration,
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
            has_resolver: false,
            resolver_by: Duration::ZERO,
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

    const fn wire(&self, mark: Mark, current: u32) -> u32 {
        self.scheme.apply(mark, current)
    }

    const fn number(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
mod tests;
