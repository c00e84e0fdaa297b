//! Names that mean something by themselves, for who asks.

use dns_core::{
    Name,
    special::{self, Outcome},
};

use super::Judge;
use crate::filter::{self, Who};

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    /// Who may not ask others' resolvers is told so by the conventions, also where they are off for everybody.
    pub(super) fn special(&self, who: &Who<'_>, name: &Name, kind: u16) -> Outcome {
        let for_all = &self.settings.special;
        let is_told = for_all.browser_canary && for_all.relay_canary;
        let blocks =
            !is_told && who.policy.blocks_encrypted_dns(who.profile) && who.policy.paused(who.now).is_none();
        let own = blocks.then(|| special::Settings {
            browser_canary: true,
            relay_canary: true,
            ..for_all.clone()
        });
        let settings = own.as_ref().unwrap_or(for_all);
        special::outcome(name.as_wire(), kind, settings, |address| {
            self.own.has((address, 0).into(), (self.clock)())
        })
    }
}
