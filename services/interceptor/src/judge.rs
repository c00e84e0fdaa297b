//! The heart: parse → who → name → decide → mark → tell.
//!
//! A state machine without IO: packets, answers and time come in as arguments; verdicts, questions and events go out in
//! [`Effects`]. Every packet that comes in gets exactly one verdict, at the latest when its flow's deadline passes.
//!
//! | state of a flow | a packet of it |
//! |---|---|
//! | unknown | waits; the process is asked for |
//! | pending | waits with the others of its flow; dropped, this once, where the resolver has too much to do |
//! | waiting for its name | passes, once, and is looked into |
//! | decided | gets the decision's mark at once |

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use verdict::{
    Decision, Direction, Flow, Mark, Protocol, Scope, Verdict, Why,
    mark::MarkScheme,
    packet::{Hook, Packet},
    policy::{CompiledPolicy, Facts},
    sniff::Sniffed,
};

mod attribution;
mod effects;
mod flows;
mod pending;

pub use attribution::{Answer, Attribution, Miss};
pub use effects::{Connection, Effects, Event, EventKind, Question, Totals, VerdictFor};
pub use pending::Waiting;

use attribution::Processes;
use flows::{Flows, Key, State, Tracked};
use pending::{Asked, Pending, Taken};

use crate::conntrack::Entry;

/// Bounds on what the judge keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a flow waits for its process before it is decided as unknown.
    pub attribution_deadline: Duration,
    /// Flows that may wait at once; beyond it they are dropped, and counted.
    pub pending_flows: usize,
    /// Questions to the resolver that are out at once.
    pub questions: usize,
    /// Packets that may wait with one flow.
    pub pending_packets: usize,
    /// Decided flows that are remembered.
    pub tracked_flows: usize,
    /// How long a refused flow is remembered, so that its retransmissions are one event.
    pub refusal_memory: Duration,
    /// How long a flow may pass while its name is not known.
    pub name_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attribution_deadline: Duration::from_millis(500),
            pending_flows: 16_384,
            questions: 256,
            pending_packets: 64,
            tracked_flows: 262_144,
            refusal_memory: Duration::from_secs(10),
            name_deadline: Duration::from_secs(10),
        }
    }
}

/// A connection whose first packet was let through so long ago is in conntrack, if it ever will be.
const CONFIRMED_BY_THEN: Duration = Duration::from_secs(60);

/// The present, twice.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub monotonic: Duration,
    /// For people, and for rules that expire.
    pub wall: SystemTime,
}

/// A packet, and where it waits.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Where its verdict goes.
    pub waiting: Waiting,
    /// Which chain queued it.
    pub hook: Hook,
    /// Owner of the sending socket, where the kernel says so.
    pub uid: Option<u32>,
    /// From the IP header on.
    pub bytes: &'a [u8],
}

/// What the judge has counted since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Packets that came in.
    pub packets: u64,
    /// Packets that do not parse.
    pub unparsable: u64,
    /// Packets refused since too many wait.
    pub overload: u64,
    /// Flows decided.
    pub decided: u64,
    /// Flows decided without their process.
    pub unattributed: u64,
    /// Questions whose answer took too long.
    pub late: u64,
    /// Flows decided but not remembered, since there are too many.
    pub untracked: u64,
}

/// See the module's head.
#[derive(Debug)]
pub struct Judge {
    limits: Limits,
    scheme: MarkScheme,
    policy: Arc<CompiledPolicy>,
    mesh_uids: Vec<u32>,
    processes: Processes,
    pending: Pending,
    flows: Flows,
    counts: Counts,
    /// When the resolver answered last, on its present stream.
    answered: Option<Duration>,
    next_id: u64,
}

impl Judge {
    /// `first_id`: connections are numbered from here. `mesh_uids`: whose outgoing traffic is the mesh's own.
    pub fn new(
        limits: Limits,
        scheme: MarkScheme,
        policy: Arc<CompiledPolicy>,
        mesh_uids: Vec<u32>,
        first_id: u64,
    ) -> Self {
        Self {
            limits,
            scheme,
            policy,
            mesh_uids,
            processes: Processes::default(),
            pending: Pending::default(),
            flows: Flows::default(),
            counts: Counts::default(),
            answered: None,
            next_id: first_id,
        }
    }

    /// What was counted so far.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Flows remembered, and flows waiting.
    pub fn sizes(&self) -> (usize, usize) {
        (self.flows.len(), self.pending.len())
    }

    /// A packet came in. `opened_by` tells who opened an established connection (conntrack).
    pub fn on_packet(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        opened_by: impl FnOnce(&Flow) -> Option<Direction>,
        effects: &mut Effects,
    ) {
        self.counts.packets += 1;
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
        let opener = if packet.may_be_reply() {
            opened_by(&seen)
        } else {
            None
        };
        let flow = Flow {
            direction: opener.unwrap_or(default_direction),
            ..seen
        };
        self.open(now, &packet, flow, arrival, effects);
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
        if let Some(full) = self
            .pending
            .join(&key, arrival.waiting, self.limits.pending_packets)
        {
            if full {
                self.overload(arrival, effects);
            }
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
        if !tracked.decision.verdict.passes()
            && packet.tcp().is_none_or(|tcp| tcp.opens())
            && !tracked.retransmits(packet)
        {
            return false; // whoever sends this now may be somebody else
        }
        let mark = Mark::of(&tracked.decision);
        effects.verdict(arrival.waiting, self.wire(mark, arrival.waiting.mark));
        true
    }

    /// A flow begins: ask who it is.
    fn open(
        &mut self,
        now: Now,
        packet: &Packet<'_>,
        flow: Flow,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) {
        let asked = Asked {
            flow,
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
            let decision = decision_of_the_mesh();
            return self.conclude(now, &asked, Arc::new(who), decision, &[arrival.waiting], effects);
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
        let deadline = now.monotonic + self.limits.attribution_deadline;
        self.pending.insert(asked, arrival.waiting, deadline);
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
        let request = answer.request_id;
        let who = self.processes.learn(answer);
        if let Some(taken) = self.pending.take(request) {
            self.attributed(now, &taken.asked, who, &taken.waiting, effects);
        }
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
        [self.pending.next_deadline(), self.flows.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time passed.
    pub fn on_time(&mut self, now: Now, effects: &mut Effects) {
        // a resolver that answers others and not this one is overloaded, perhaps on purpose: nothing passes for that
        let patience = self.limits.attribution_deadline;
        let answers = self
            .answered
            .is_some_and(|last| now.monotonic.saturating_sub(last) < patience);
        while let Some(Taken {
            asked,
            waiting,
            was_out,
        }) = self.pending.take_late(now.monotonic)
        {
            self.counts.late += u64::from(was_out);
            if answers {
                self.give_up(&waiting, effects);
                continue;
            }
            let who = Attribution {
                miss: Some(Miss::Timeout),
                uid: asked.uid,
                ..Attribution::default()
            };
            self.attributed(now, &asked, Arc::new(who), &waiting, effects);
        }
        self.ask(effects);
        for (key, was_waiting_for_name) in self.flows.take_late(now.monotonic) {
            if was_waiting_for_name {
                self.settle_nameless(now, key, effects);
            }
        }
    }

    fn attributed(
        &mut self,
        now: Now,
        asked: &Asked,
        mut who: Arc<Attribution>,
        waiting: &[Waiting],
        effects: &mut Effects,
    ) {
        if who.process.is_none() {
            self.counts.unattributed += 1;
        }
        // the packet's own word, before the process's of now
        if asked.uid.is_some() && who.uid != asked.uid {
            Arc::make_mut(&mut who).uid = asked.uid;
        }
        let decision = self.decide(now, &asked.flow, &who, None, !asked.payload);
        self.conclude(now, asked, who, decision, waiting, effects);
    }

    /// By the policy in force. `may_wait`: where a name could change it and none is known, let the flow pass until it says
    /// its name.
    fn decide(
        &self,
        now: Now,
        flow: &Flow,
        who: &Attribution,
        domain: Option<&str>,
        may_wait: bool,
    ) -> Decision {
        let profile = self.processes.profile(&self.policy, who);
        let facts = Facts {
            flow: *flow,
            scope: flow.scope(),
            uid: who.uid,
            domains: domain.as_slice(),
            now: now.wall,
        };
        let says_names = flow.protocol == Protocol::TCP && flow.scope() != Scope::Localhost;
        if may_wait && says_names && domain.is_none() && self.policy.wants_name(profile, &facts) {
            let profile = self.policy.profile_id(profile);
            return Decision {
                verdict: Verdict::Allow,
                why: Why::NameWanted,
                source: profile.clone(),
                profile,
                permanent: false,
            };
        }
        self.policy.decide(profile, &facts)
    }

    /// Marks what waits, remembers the flow, tells of it.
    fn conclude(
        &mut self,
        now: Now,
        asked: &Asked,
        who: Arc<Attribution>,
        decision: Decision,
        waiting: &[Waiting],
        effects: &mut Effects,
    ) {
        let mark = Mark::of(&decision);
        for packet in waiting {
            effects.verdict(*packet, self.wire(mark, packet.mark));
        }
        self.counts.decided += 1;
        let key = Key::of(&asked.flow);
        let again = self.flows.repeats(&key, &who, &decision);
        let tracked = Tracked {
            id: if again.is_some() {
                again.unwrap_or_default()
            } else {
                self.number()
            },
            flow: asked.flow,
            started: now.wall,
            began: now.monotonic,
            initial_sequence: asked.initial_sequence,
            state: State::after(&decision, now.monotonic, &self.limits),
            who,
            domain: None,
            decision,
        };
        if again.is_none() && tracked.decision.why != Why::NameWanted {
            effects.tell(EventKind::Decided, now, tracked.connection());
        }
        if self.flows.len() < self.limits.tracked_flows || self.flows.contains(&key) {
            self.flows.insert(key, tracked);
        } else {
            self.counts.untracked += 1;
        }
    }

    /// A packet of a flow that passes until it says its name.
    fn look_for_name(
        &mut self,
        now: Now,
        key: Key,
        packet: &Packet<'_>,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) -> bool {
        let Some(tracked) = self.flows.get_mut(&key) else {
            return false;
        };
        let found = tracked.look(packet, Hook::Output == arrival.hook);
        match found {
            Sniffed::NeedMore => {
                effects.verdict(
                    arrival.waiting,
                    self.scheme.apply(Mark::ACCEPT_ONCE, arrival.waiting.mark),
                );
                true
            }
            Sniffed::Name(_) | Sniffed::None => {
                let name = match found {
                    Sniffed::Name(name) => Some(Arc::from(name)),
                    Sniffed::None | Sniffed::NeedMore => None,
                };
                let decision = self.settle_name(now, key, name, effects);
                let mark = decision.map_or(Mark::DROP_ONCE, |decision| Mark::of(&decision));
                effects.verdict(arrival.waiting, self.wire(mark, arrival.waiting.mark));
                true
            }
        }
    }

    /// The flow said its name, or will not: decide it for good.
    fn settle_name(
        &mut self,
        now: Now,
        key: Key,
        name: Option<Arc<str>>,
        effects: &mut Effects,
    ) -> Option<Decision> {
        let tracked = self.flows.get(&key)?;
        let decision = self.decide(now, &tracked.flow, &tracked.who, name.as_deref(), false);
        let state = State::after(&decision, now.monotonic, &self.limits);
        let tracked = self.flows.set(&key, decision.clone(), state)?;
        tracked.domain = name;
        effects.tell(EventKind::Decided, now, tracked.connection());
        Some(decision)
    }

    fn settle_nameless(&mut self, now: Now, key: Key, effects: &mut Effects) {
        self.settle_name(now, key, None, effects);
    }

    /// A new policy is in force: live flows are decided anew, and those whose fate changed lose their mark, so that their
    /// next packet is queued.
    pub fn on_policy(&mut self, now: Now, policy: Arc<CompiledPolicy>, effects: &mut Effects) {
        self.policy = policy;
        self.processes.forget_profiles();
        for key in self.flows.forget_refusals() {
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
        let decision = self.decide(now, &tracked.flow, &tracked.who, tracked.domain.as_deref(), false);
        if decision == tracked.decision {
            return;
        }
        let fate_changed = Mark::of(&decision) != Mark::of(&tracked.decision);
        let state = State::Settled;
        let Some(tracked) = self.flows.set(&key, decision, state) else {
            return;
        };
        if fate_changed {
            effects.resets.push(tracked.flow);
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
        let Some(tracked) = self.flows.remove(&key) else {
            return;
        };
        let mut connection = tracked.connection();
        let outgoing = tracked.flow.direction == Direction::Outgoing;
        let (sent, received) = if outgoing {
            (entry.sent, entry.received)
        } else {
            (entry.received, entry.sent)
        };
        let duration = now.monotonic.saturating_sub(tracked.began);
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
        for key in self
            .flows
            .settled_before(now.monotonic.saturating_sub(CONFIRMED_BY_THEN))
        {
            if alive.contains(&key) {
                continue;
            }
            let Some(tracked) = self.flows.remove(&key) else {
                continue;
            };
            let mut connection = tracked.connection();
            let duration = now.monotonic.saturating_sub(tracked.began);
            connection.totals = Some(Totals {
                duration,
                ..Totals::default()
            });
            effects.tell(EventKind::Ended, now, connection);
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
