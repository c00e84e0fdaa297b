//! Flows that say their name themselves: by TCP they pass until they do, by QUIC they wait.
//!
//! QUIC's opener says its hello in one go and expects no answer before it is whole, so that nothing has to pass.

use std::sync::Arc;

use verdict::{
    Decision, Direction, Flow, Mark, Protocol, Scope, Verdict, Why,
    packet::{Hook, Packet},
    policy::Facts,
    sniff::Sniffed,
};

use super::{
    Arrival, Attribution, Effects, EventKind, Judge, Now, Waiting,
    flows::{Key, State},
    pending::Taken,
    tunnel::{self, Concluded},
};

/// Names of a remote end, the likeliest first; empty where none is known.
pub(super) type Domains = Arc<[Arc<str>]>;

impl Judge {
    /// It is known whose a flow is: decide it, if need be by the name that it has said.
    pub(super) fn attributed(
        &mut self,
        now: Now,
        taken: Taken,
        mut who: Arc<Attribution>,
        effects: &mut Effects,
    ) {
        let asked = taken.asked;
        // the packet's own word, before the process's of now
        if asked.uid.is_some() && who.uid != asked.uid {
            Arc::make_mut(&mut who).uid = asked.uid;
        }
        let says_names = match asked.flow.protocol {
            Protocol::TCP => !asked.payload,
            _ => !taken.said.is_empty(),
        };
        let mut domains = self.told(&asked.flow, &who);
        let mut decision = self.decide(now, &asked.flow, &who, &domains, says_names);
        if decision.why == Why::NameWanted && !taken.said.is_empty() {
            domains = match taken.said.name() {
                Sniffed::NeedMore => {
                    let deadline = now.monotonic + self.limits.attribution_deadline;
                    return self.pending.hold(taken, who, deadline);
                }
                Sniffed::Name(name) => Domains::from([Arc::from(name)]),
                Sniffed::None => Domains::default(),
            };
            decision = self.decide(now, &asked.flow, &who, &domains, false);
        }
        self.counts.unattributed += u64::from(who.process.is_none());
        let concluded = Concluded {
            who,
            decision,
            domains,
            id: None,
            through: None,
        };
        self.conclude_or_open(now, &asked, concluded, &taken.waiting, effects);
    }

    /// What the DNS service told this program of the other end; nobody asks for names of those that come to us.
    fn told(&self, flow: &Flow, who: &Attribution) -> Domains {
        if flow.direction == Direction::Incoming || flow.scope() == Scope::Localhost {
            return Domains::default();
        }
        self.names
            .names(who.process.as_deref(), flow.remote.address)
            .into()
    }

    /// By the policy in force. `may_wait`: where a name could change it and none is known, let the flow pass until it says
    /// its name.
    pub(super) fn decide(
        &self,
        now: Now,
        flow: &Flow,
        who: &Attribution,
        domains: &[Arc<str>],
        may_wait: bool,
    ) -> Decision {
        let profile = self.processes.profile(&self.policy, who);
        let names: Vec<&str> = domains.iter().map(|name| &**name).collect();
        let facts = Facts {
            flow: *flow,
            scope: flow.scope(),
            uid: who.uid,
            domains: &names,
            dns_is_served: self.names.is_served(),
            now: now.clocks(),
        };
        if who.is_unsure(flow.protocol) {
            let decision = self.policy.decide_unsure(&facts);
            if decision.why == Why::TunnelUnsure {
                return decision;
            }
        }
        let may_wait = may_wait && flow.scope() != Scope::Localhost;
        if may_wait && domains.is_empty() && self.policy.wants_name(profile, &facts) {
            let nameless = self.policy.decide(profile, &facts);
            if flow.protocol == Protocol::TCP && nameless.verdict == Verdict::Tunnel {
                // nothing of it is sent in the clear to learn a name
                return nameless;
            }
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

    /// A flow that waits for the rest of its hello has said more.
    pub(super) fn hear_more(&mut self, now: Now, request_id: u64, effects: &mut Effects) {
        if self.pending.name(request_id) == Sniffed::NeedMore {
            return;
        }
        let Some(mut taken) = self.pending.take(request_id) else {
            return;
        };
        if let Some(who) = taken.who.take() {
            self.attributed(now, taken, who, effects);
        }
    }

    /// The rest of the hello never came: drops this, once. What passed without its name could be half of a hello that is
    /// refused when it is whole.
    pub(super) fn give_up_unnamed(&mut self, waiting: &[Waiting], effects: &mut Effects) {
        for packet in waiting {
            self.counts.unnamed += 1;
            tracing::trace!(why = Why::NameWanted.text(), "packet dropped");
            effects.verdict(*packet, self.wire(Mark::DROP_ONCE, packet.mark));
        }
    }

    /// A packet of a flow that passes until it says its name.
    pub(super) fn look_for_name(
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
                    Sniffed::Name(name) => Some(name),
                    Sniffed::None | Sniffed::NeedMore => None,
                };
                let decision = self.settle_name(now, key, name, effects);
                let mark = decision.map_or(Mark::DROP_ONCE, |decision| {
                    tunnel::mark_by(&decision, arrival.hook)
                });
                effects.verdict(arrival.waiting, self.wire(mark, arrival.waiting.mark));
                true
            }
        }
    }

    /// The flow said its name, or will not: decide it for good.
    pub(super) fn settle_name(
        &mut self,
        now: Now,
        key: Key,
        name: Option<String>,
        effects: &mut Effects,
    ) -> Option<Decision> {
        let tracked = self.flows.get(&key)?;
        let domains: Domains = name.map(Arc::from).into_iter().collect();
        let decision = self.decide(now, &tracked.flow, &tracked.who, &domains, false);
        let (decision, through) = tunnel::for_live(tracked, decision);
        let state = State::after(&decision, now.monotonic, &self.limits);
        let tracked = self.flows.set(&key, decision.clone(), state)?;
        tracked.domains = domains;
        tracked.through = through;
        effects.tell(EventKind::Decided, now, tracked.connection());
        Some(decision)
    }
}
