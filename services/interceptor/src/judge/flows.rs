//! Flows that were decided.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use verdict::{
    Decision, Direction, Endpoint, Flow, Protocol, Scope, Why,
    packet::Packet,
    sniff::{self, Sniffed},
};

use super::{Attribution, Connection, Limits, Through, naming::Domains};
use crate::conntrack::{Entry, flow_of};

/// What makes a flow this flow, whoever opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    protocol: Protocol,
    local: Endpoint,
    remote: Endpoint,
}

impl Key {
    pub(super) const fn of(flow: &Flow) -> Self {
        Self {
            protocol: flow.protocol,
            local: flow.local,
            remote: flow.remote,
        }
    }

    /// The same connection from its other end, which is on this host too for loopback.
    const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            local: self.remote,
            remote: self.local,
        }
    }
}

/// What a further packet means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Decided for good.
    Settled,
    /// Refused: remembered until then, so that retransmissions are one event.
    Refused { until: Duration },
    /// Passes until it says its name, or until then. What it said so far.
    NameWanted { until: Duration, said: Vec<u8> },
}

impl State {
    pub(super) fn after(decision: &Decision, now: Duration, limits: &Limits) -> Self {
        if decision.why == Why::NameWanted {
            Self::NameWanted {
                until: now + limits.name_deadline,
                said: Vec::new(),
            }
        } else if decision.verdict.passes() {
            Self::Settled
        } else {
            Self::Refused {
                until: now + limits.refusal_memory,
            }
        }
    }

    const fn until(&self) -> Option<Duration> {
        match self {
            Self::Settled => None,
            Self::Refused { until } | Self::NameWanted { until, .. } => Some(*until),
        }
    }
}

/// A decided flow.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) id: u64,
    pub(super) flow: Flow,
    pub(super) started: SystemTime,
    pub(super) began: Duration,
    /// How long it had lived when this process took it over from the one before.
    pub(super) lived: Duration,
    pub(super) initial_sequence: Option<u32>,
    pub(super) state: State,
    pub(super) who: Arc<Attribution>,
    /// What its other end may be called; the likeliest first.
    pub(super) domains: Domains,
    pub(super) decision: Decision,
    /// How it travels through Gate17, or why it does not.
    pub(super) through: Option<Arc<Through>>,
    /// The entry of Gate17 has seen it.
    pub(super) carried: bool,
}

impl Tracked {
    /// From its first packet until now.
    pub(super) fn age(&self, now: Duration) -> Duration {
        self.lived + now.saturating_sub(self.began)
    }
}

/// A name comes early or not at all: a TLS hello with every extension known fits in this.
const LONGEST_HELLO: usize = 16 << 10;

impl Tracked {
    pub(super) fn connection(&self) -> Connection {
        Connection {
            id: self.id,
            flow: self.flow,
            scope: self.flow.scope(),
            started: self.started,
            who: Arc::clone(&self.who),
            domain: self.domains.first().cloned(),
            decision: self.decision.clone(),
            totals: None,
            through: self.through.clone(),
        }
    }

    /// The packet opens another connection with the same ends.
    pub(super) fn is_reopened_by(&self, packet: &Packet<'_>) -> bool {
        packet.tcp().is_some_and(|tcp| tcp.opens()) && !self.retransmits(packet)
    }

    /// The packet is the SYN of this very connection, once more.
    pub(super) fn retransmits(&self, packet: &Packet<'_>) -> bool {
        let opened_with = packet.tcp().filter(|tcp| tcp.opens()).map(|tcp| tcp.sequence);
        opened_with.is_some() && opened_with == self.initial_sequence
    }

    /// Looks for the name in what the opener says. The other end speaking first means that no name will come.
    pub(super) fn look(&mut self, packet: &Packet<'_>, sent_by_us: bool) -> Sniffed {
        let State::NameWanted { said, .. } = &mut self.state else {
            return Sniffed::None;
        };
        let by_opener = sent_by_us == (self.flow.direction == Direction::Outgoing);
        match (packet.payload, by_opener) {
            ([], _) => Sniffed::NeedMore,
            (_, false) => Sniffed::None,
            (payload, true) => {
                said.extend_from_slice(payload);
                match sniff::name(said) {
                    Sniffed::NeedMore if said.len() > LONGEST_HELLO => Sniffed::None,
                    found => found,
                }
            }
        }
    }
}

/// By key; `deadlines` points to those that are to be looked at later, perhaps more than once.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: HashMap<Key, Tracked>,
    /// TCP connections whose ends another one has by now: conntrack let go of each of them for that, and it may be told only
    /// after the new one was decided.
    replaced: HashMap<Key, Tracked>,
    deadlines: BinaryHeap<Reverse<Deadline>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deadline {
    at: Duration,
    key: Key,
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Flows {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.flows.contains_key(key)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Tracked> {
        self.flows.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Tracked> {
        self.flows.get_mut(key)
    }

    /// By either end where both are on this host.
    pub(super) fn find(&self, key: Key, scope: Scope) -> Option<(Key, &Tracked)> {
        let other_end = || (scope == Scope::Localhost).then(|| key.reversed());
        let direct = self.flows.get(&key).map(|tracked| (key, tracked));
        direct.or_else(|| other_end().and_then(|key| self.flows.get(&key).map(|tracked| (key, tracked))))
    }

    /// The number of the flow that is remembered under `key`, where this decision says nothing new of it.
    pub(super) fn repeats(&self, key: &Key, who: &Attribution, decision: &Decision) -> Option<u64> {
        let known = self.flows.get(key)?;
        let refused = matches!(known.state, State::Refused { .. });
        (refused && known.decision == *decision && known.who.same_program(who)).then_some(known.id)
    }

    /// Gives the connection that is over by this one, if nobody will tell its end.
    pub(super) fn insert(&mut self, key: Key, tracked: Tracked) -> Option<Tracked> {
        self.remind(key, &tracked.state);
        let (id, begins) = (tracked.id, tracked.initial_sequence.is_some());
        let old = self.flows.insert(key, tracked);
        let old = old.filter(|old| old.id != id && old.state == State::Settled)?;
        if old.flow.protocol == Protocol::TCP && begins {
            self.replaced.insert(key, old)
        } else {
            Some(old)
        }
    }

    /// Gives a flow a new decision and state.
    pub(super) fn set(&mut self, key: &Key, decision: Decision, state: State) -> Option<&mut Tracked> {
        self.remind(*key, &state);
        let tracked = self.flows.get_mut(key)?;
        tracked.decision = decision;
        tracked.state = state;
        Some(tracked)
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Tracked> {
        self.flows.remove(key)
    }

    /// The connection that conntrack let go of: the older one of two with the same ends.
    pub(super) fn end(&mut self, key: &Key) -> Option<Tracked> {
        self.replaced.remove(key).or_else(|| self.flows.remove(key))
    }

    /// Those that were replaced before then, whose end was not heard.
    pub(super) fn take_replaced_before(&mut self, then: Duration) -> Vec<Tracked> {
        let flows = &self.flows;
        let unheard = |key: &Key, _: &mut Tracked| flows.get(key).is_none_or(|new| new.began < then);
        self.replaced.extract_if(unheard).map(|(_, old)| old).collect()
    }

    /// The flow of a connection in conntrack.
    pub(super) fn of_entry(&self, entry: &Entry) -> Option<Key> {
        [Direction::Outgoing, Direction::Incoming]
            .into_iter()
            .find_map(|direction| {
                let key = Key::of(&flow_of(&entry.original, direction));
                self.flows
                    .get(&key)
                    .filter(|tracked| tracked.flow.direction == direction)
                    .map(|_| key)
            })
    }

    /// Flows that pass for good and began before then.
    pub(super) fn settled_before(&self, then: Duration) -> Vec<Key> {
        let old = |tracked: &Tracked| tracked.state == State::Settled && tracked.began < then;
        self.flows
            .iter()
            .filter(|(_, tracked)| old(tracked))
            .map(|(key, _)| *key)
            .collect()
    }

    /// Refusals are asked anew by themselves; gives the keys of all others.
    pub(super) fn forget_refusals(&mut self) -> Vec<Key> {
        self.flows
            .retain(|_, tracked| !matches!(tracked.state, State::Refused { .. }));
        self.flows.keys().copied().collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse(deadline)| deadline.at)
    }

    /// Forgets refusals that are old; gives the flows that were to say their name by now (true).
    pub(super) fn take_late(&mut self, now: Duration) -> Vec<(Key, bool)> {
        let mut late = Vec::new();
        while let Some(Reverse(deadline)) = self.deadlines.peek().copied().filter(|next| next.0.at <= now) {
            self.deadlines.pop();
            match self
                .flows
                .get(&deadline.key)
                .map(|tracked| (&tracked.state, tracked.state.until()))
            {
                Some((state, Some(until))) if until <= now => {
                    let wanted = matches!(state, State::NameWanted { .. });
                    if !wanted {
                        self.flows.remove(&deadline.key);
                    }
                    late.push((deadline.key, wanted));
                }
                _ => {}
            }
        }
        late
    }

    fn remind(&mut self, key: Key, state: &State) {
        if let Some(at) = state.until() {
            self.deadlines.push(Reverse(Deadline { at, key }));
        }
    }
}
