//! Flows that pass until they say their name.

use std::sync::Arc;

use verdict::{
    Decision, Mark,
    packet::{Hook, Packet},
    sniff::Sniffed,
};

use super::{
    Arrival, Effects, EventKind, Judge, Now,
    flows::{Key, State},
};

impl Judge {
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
    pub(super) fn settle_name(
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
}
