//! What goes through Gate17. A TCP connection's SYN waits until the far end has answered, so that the program sees what became
//! of it; datagrams go at once.
//!
//! | while a SYN waits | it gets |
//! |---|---|
//! | the far end answered | its mark: it enters the tunnel |
//! | it was refused, or there is no entry | an error, this once: the next try may succeed |
//! | the entry's stream ended | nothing yet, until it is known whether it comes back, as where it is restarted; then as above |
//! | it timed out, here or there | nothing, this once, as from an end that does not answer |
//! | a new policy wants something else | what that wants |
//! | another SYN has the same ends, or the program ended | nothing, and the entry hears that nobody waits |
//!
//! Invariant: what is to be tunnelled and cannot be is refused; nothing here ever lets it pass in the clear.

mod fate;

use std::sync::Arc;

use verdict::{
    Decision, Flow, Mark, Protocol, Verdict,
    packet::{Hook, Packet},
};

use super::{
    Arrival, Attribution, Carrying, Effects, EventKind, Judge, Now, ToTunnel, Waiting,
    flows::{Key, State},
    limits::{DELIVERED_BY_THEN, UNDELIVERED_DATAGRAMS_BY_THEN},
    naming::Domains,
    opening::{Entry, Opening},
    pending::Asked,
};
use crate::conntrack::{Tuple, Way, flow_of};
use fate::{LATE, late, problem, refused, said, silent, through, unavailable, unsupported};
pub(super) use fate::{begins_anew, for_live, is_undeliverable, mark_by};

/// How a connection travels, or why it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Through {
    /// Ids of the nodes, first to last.
    pub hops: Vec<String>,
    /// In words; empty where it is carried.
    pub problem: String,
}

/// What the entry says to an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenAnswer {
    /// The far end answered.
    Opened {
        /// Ids of the nodes.
        hops: Vec<String>,
    },
    /// It is not carried.
    Refused {
        /// How.
        refusal: Refusal,
        /// In words.
        text: String,
    },
}

/// Kinds of refusals, by what the program is to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The destination or the exit said no.
    Said,
    /// The destination did not answer.
    Silent,
    /// There is no way to it.
    NoWay,
}

/// All that makes a flow a decided one.
#[derive(Clone, Debug)]
pub(super) struct Concluded {
    pub(super) who: Arc<Attribution>,
    pub(super) decision: Decision,
    pub(super) domains: Domains,
    /// Where it has one already.
    pub(super) id: Option<u64>,
    pub(super) through: Option<Arc<Through>>,
}

const NO_ENTRY: &str = "the entry of Gate17 is not there";
const NO_ANSWER: &str = "the entry of Gate17 did not answer in time";
const NOT_DELIVERED: &str = "its packets do not get into the tunnel: is its socket bound to a device?";

impl Judge {
    /// It is known what is to become of a flow: concludes it, or lets it wait for the far end.
    pub(super) fn conclude_or_open(
        &mut self,
        now: Now,
        asked: &Asked,
        concluded: Concluded,
        waiting: &[Waiting],
        effects: &mut Effects,
    ) {
        if concluded.decision.verdict != Verdict::Tunnel {
            return self.conclude(now, asked, concluded, waiting, effects);
        }
        let is_tcp = asked.flow.protocol == Protocol::TCP;
        if is_tcp && asked.way == Way::Redirected {
            // it entered the tunnel in the days of an earlier process
            return self.conclude(now, asked, concluded, waiting, effects);
        }
        if is_tcp && asked.initial_sequence.is_none() {
            let late = refused(concluded, late, LATE);
            return self.conclude(now, asked, late, waiting, effects);
        }
        if self.openings.entry() == Entry::Gone {
            self.counts.tunnel_unavailable += 1;
            let refused = refused(concluded, unavailable, NO_ENTRY);
            return self.conclude(now, asked, refused, waiting, effects);
        }
        if !is_tcp {
            if asked.way == Way::Direct {
                effects.anew.push(asked.flow);
            }
            return self.conclude(now, asked, concluded, waiting, effects);
        }
        // they wait far longer than for their process: most of the queue stays free for others
        let most = self.limits.pending_flows.div_ceil(4);
        if self.openings.len() >= most || self.openings.of_uid(asked.uid) >= most.div_ceil(2) {
            return self.give_up(waiting, effects);
        }
        let id = self.number();
        let opening = Opening {
            asked: *asked,
            options: self.policy.tunnel_options(&concluded.decision.profile).clone(),
            concluded: Concluded {
                id: Some(id),
                ..concluded
            },
            waiting: waiting.to_vec(),
        };
        self.let_wait(now, opening, effects);
    }

    fn let_wait(&mut self, now: Now, opening: Opening, effects: &mut Effects) {
        let deadline = now.monotonic + self.limits.tunnel_deadline;
        let request_id = self.openings.insert(opening, deadline);
        if self.openings.entry() == Entry::There {
            self.ask_entry(now, request_id, effects);
        }
    }

    fn ask_entry(&self, now: Now, request_id: u64, effects: &mut Effects) {
        if let Some(opening) = self.openings.get(request_id) {
            let carrying = Box::new(opening.carrying(now));
            effects.tunnel.push(ToTunnel::Open { request_id, carrying });
        }
    }

    /// A packet of a flow whose SYN waits; false where there is none.
    pub(super) fn join_opening(
        &mut self,
        key: &Key,
        packet: &Packet<'_>,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) -> bool {
        let Some(asked) = self.openings.asked(key) else {
            return false;
        };
        let opens = packet.tcp().filter(|tcp| tcp.opens()).map(|tcp| tcp.sequence);
        if arrival.hook == Hook::Input || opens.is_none() {
            // nothing of this connection is on its way yet: this is of another one
            effects.verdict(arrival.waiting, self.wire(Mark::DROP_ONCE, arrival.waiting.mark));
            return true;
        }
        if opens != asked.initial_sequence || arrival.uid != asked.uid {
            self.withdraw(key, effects);
            return false;
        }
        // the first one waits already, and the kernel has not room for ever so many
        effects.verdict(arrival.waiting, self.wire(Mark::DROP_ONCE, arrival.waiting.mark));
        true
    }

    /// A packet of a flow that is in the tunnel already, and whose packets should not come here any more; false where it is to
    /// be asked for anew.
    pub(super) fn tunnelled_again(
        &mut self,
        now: Now,
        key: Key,
        packet: &Packet<'_>,
        arrival: &Arrival<'_>,
        effects: &mut Effects,
    ) -> bool {
        let Some(tracked) = self.flows.get(&key) else {
            return false;
        };
        let since = now.monotonic.saturating_sub(tracked.began);
        let undelivered = match packet.tcp() {
            // the kernel knows no connection of this SYN although it was let go: it did not get to the entry
            Some(tcp) => tcp.opens() && since >= DELIVERED_BY_THEN,
            None if self.openings.entry() == Entry::Gone
                || (tracked.carried && since >= UNDELIVERED_DATAGRAMS_BY_THEN) =>
            {
                return false;
            }
            None => since >= UNDELIVERED_DATAGRAMS_BY_THEN,
        };
        if undelivered {
            let decision = unsupported(&tracked.decision);
            let state = State::after(&decision, now.monotonic, &self.limits);
            if let Some(tracked) = self.flows.set(&key, decision, state) {
                tracked.through = problem(NOT_DELIVERED);
                effects.tell(EventKind::Redecided, now, tracked.connection());
            }
        }
        let mark = if undelivered {
            Mark::BLOCK_ONCE
        } else {
            Mark::TUNNEL
        };
        effects.verdict(arrival.waiting, self.wire(mark, arrival.waiting.mark));
        true
    }

    /// The entry answered.
    pub fn on_tunnel_answer(&mut self, now: Now, request_id: u64, answer: OpenAnswer, effects: &mut Effects) {
        let Some(opening) = self.openings.take(request_id) else {
            return;
        };
        let Opening {
            asked,
            concluded,
            waiting,
            options: _,
        } = opening;
        let concluded = match answer {
            OpenAnswer::Opened { hops } => Concluded {
                through: through(hops),
                ..concluded
            },
            OpenAnswer::Refused { refusal, text } => {
                let how = match refusal {
                    Refusal::Said => said,
                    Refusal::Silent => silent,
                    Refusal::NoWay => unavailable,
                };
                refused(concluded, how, &text)
            }
        };
        self.conclude(now, &asked, concluded, &waiting, effects);
    }

    /// The entry says by which nodes a live connection goes.
    pub fn on_carried(&mut self, now: Now, flow: &Flow, hops: Vec<String>, effects: &mut Effects) {
        let Some(tracked) = self.flows.get_mut(&Key::of(flow)) else {
            return;
        };
        let known = tracked
            .through
            .as_ref()
            .is_some_and(|through| through.hops == hops);
        if known || tracked.decision.verdict != Verdict::Tunnel {
            return;
        }
        tracked.through = through(hops);
        effects.tell(EventKind::Redecided, now, tracked.connection());
    }

    /// The entry's stream began: what is to be tunnelled can be sent there. What came before this process knew is asked now.
    pub fn on_tunnel_begin(&mut self, now: Now, effects: &mut Effects) {
        self.openings.set_entry(Entry::There);
        for request_id in self.openings.requests() {
            self.ask_entry(now, request_id, effects);
        }
    }

    /// The entry's stream ended. It may be being restarted: whoever waits for it is told when that is known.
    pub const fn on_tunnel_interrupted(&mut self) {
        self.openings.set_entry(Entry::Unknown);
    }

    /// There is no entry: who waits for it gets an error at once.
    pub fn on_tunnel_lost(&mut self, now: Now, effects: &mut Effects) {
        self.openings.set_entry(Entry::Gone);
        for request_id in self.openings.requests() {
            self.counts.tunnel_unavailable += 1;
            let text = NO_ENTRY.to_owned();
            let refusal = Refusal::NoWay;
            self.on_tunnel_answer(now, request_id, OpenAnswer::Refused { refusal, text }, effects);
        }
    }

    /// The time of some openings is over.
    pub(super) fn end_late_openings(&mut self, now: Now, effects: &mut Effects) {
        while let Some(request_id) = self.openings.next_late(now.monotonic) {
            effects.tunnel.push(ToTunnel::Withdrawn(request_id));
            let text = NO_ANSWER.to_owned();
            let refusal = Refusal::Silent;
            self.on_tunnel_answer(now, request_id, OpenAnswer::Refused { refusal, text }, effects);
        }
    }

    /// By a new policy. What is not to be tunnelled any more has not left this host, and gets what it wants now; what is to
    /// travel otherwise is asked for anew.
    pub(super) fn redecide_openings(&mut self, now: Now, effects: &mut Effects) {
        for request_id in self.openings.requests() {
            let Some(opening) = self.openings.get(request_id) else {
                continue;
            };
            let Opening { asked, concluded, .. } = opening;
            let decision = self.decide(now, &asked.flow, &concluded.who, &concluded.domains, false);
            let tunnels = decision.verdict == Verdict::Tunnel;
            let options = self.policy.tunnel_options(&decision.profile);
            if tunnels && *options == opening.options {
                self.openings.set_decision(request_id, decision);
                continue;
            }
            let options = options.clone();
            let Some(opening) = self.openings.take(request_id) else {
                continue;
            };
            effects.tunnel.push(ToTunnel::Withdrawn(request_id));
            let concluded = Concluded {
                decision,
                ..opening.concluded
            };
            if tunnels {
                let opening = Opening {
                    concluded,
                    options,
                    ..opening
                };
                self.let_wait(now, opening, effects);
                continue;
            }
            self.conclude(now, &opening.asked, concluded, &opening.waiting, effects);
        }
    }

    /// Programs that ended wait for nothing.
    pub(super) fn withdraw_ended(&mut self, ended: &[u64], effects: &mut Effects) {
        for key in self.openings.of_processes(ended) {
            self.withdraw(&key, effects);
        }
    }

    fn withdraw(&mut self, key: &Key, effects: &mut Effects) {
        let Some((request_id, opening)) = self.openings.take_key(key) else {
            return;
        };
        effects.tunnel.push(ToTunnel::Withdrawn(request_id));
        for packet in opening.waiting {
            effects.verdict(packet, self.wire(Mark::DROP_ONCE, packet.mark));
        }
    }

    /// The connection that the program began with `original`, where it is one that goes through the tunnel. Who asks has seen
    /// it there.
    pub fn tunnelled(&mut self, original: &Tuple) -> Option<Carrying> {
        let key = Key::of(&flow_of(original, verdict::Direction::Outgoing));
        let tracked = self.flows.get_mut(&key)?;
        if tracked.decision.verdict != Verdict::Tunnel {
            return None;
        }
        tracked.carried = true;
        Some(Carrying {
            connection: tracked.connection(),
            options: self.policy.tunnel_options(&tracked.decision.profile).clone(),
        })
    }
}
