//! The decision itself, and the account of how it came about: both are one walk.

use std::fmt;

use super::{
    Compiled, CompiledPolicy, Explanation, Facts, ProfileRef,
    matching::{Outcome, outcome},
    settings::Set,
};
use crate::{
    Decision, Direction, Protocol, Scope, Source, Verdict, Why,
    policy::model::{Action, Rule},
};

const DNS: u16 = 53;

/// A switch, as it stands for one profile.
type Switch<'a> = (&'a Set<bool>, Why);

/// Notes what was tried; where nobody wants to know, nothing is written down.
trait Steps {
    fn note(&mut self, source: &Source, text: fmt::Arguments<'_>);
}

struct Silent;

impl Steps for Silent {
    fn note(&mut self, _: &Source, _: fmt::Arguments<'_>) {}
}

impl Steps for Vec<String> {
    fn note(&mut self, source: &Source, text: fmt::Arguments<'_>) {
        self.push(format!("{source}: {text}"));
    }
}

/// What somebody wants to be done, before it is known whether it can be.
struct Wish<'a> {
    action: Action,
    why: Why,
    source: &'a Source,
    /// It names this very flow (a rule), rather than all that nothing is said about.
    by_rule: bool,
}

impl CompiledPolicy {
    /// Decides a flow. Total: there is always a decision.
    pub fn decide(&self, profile: ProfileRef, facts: &Facts<'_>) -> Decision {
        self.walk(self.compiled(profile), facts, &mut Silent)
    }

    /// Decides a flow and says what was tried before, in order.
    pub fn explain(&self, profile: ProfileRef, facts: &Facts<'_>) -> Explanation {
        let mut steps = Vec::new();
        let decision = self.walk(self.compiled(profile), facts, &mut steps);
        steps.note(
            &decision.source,
            format_args!("decides: {} ({})", decision.verdict.text(), decision.why),
        );
        Explanation { decision, steps }
    }

    /// Whether a name could change the decision of a flow that none is known for: a rule that matches by name comes before
    /// whatever decides without one, or the flow would be refused for having none. A query that goes to the local DNS server
    /// says no name of whom it was meant for: waiting for one would let it go there.
    pub fn wants_name(&self, profile: ProfileRef, facts: &Facts<'_>) -> bool {
        if facts.flow.direction == Direction::Incoming
            || !facts.domains.is_empty()
            || self.is_stray_query(facts)
        {
            return false;
        }
        let profile = self.compiled(profile);
        for rule in profile.rules.iter().chain(&self.global.rules) {
            match outcome(rule, facts) {
                Outcome::Match => return false,
                Outcome::NameDecides => return true,
                Outcome::Differs(_) => {}
            }
        }
        match self.switched_off(profile, facts, &mut Silent) {
            Some((_, why)) => why == Why::BlockDirect,
            None => profile.may_hide_encrypted_dns(facts),
        }
    }

    fn walk(&self, profile: &Compiled, facts: &Facts<'_>, steps: &mut impl Steps) -> Decision {
        let wish = first_match(&profile.rules, Why::Rule, facts, steps)
            .or_else(|| first_match(&self.global.rules, Why::GlobalRule, facts, steps))
            .or_else(|| {
                let (switch, why) = self.switched_off(profile, facts, steps)?;
                Some(Wish {
                    action: Action::Block,
                    why,
                    source: &switch.source,
                    by_rule: false,
                })
            })
            .unwrap_or(Wish {
                action: profile.settings.default_action.value,
                why: Why::DefaultAction,
                source: &profile.settings.default_action.source,
                by_rule: false,
            });
        let (verdict, why) = self.fulfil(profile, &wish, facts, steps);
        // who may ask for what is decided where the names are known; a rule that is for this very flow still refuses it
        let redirected = (verdict.passes() || !wish.by_rule) && self.is_stray_query(facts);
        if redirected {
            steps.note(
                wish.source,
                format_args!("{}, but DNS queries go to the local server", verdict.text()),
            );
        }
        let (verdict, why, source) = match redirected {
            true => (Verdict::RedirectDns, Why::DnsRedirect, &self.redirect_dns),
            false => (verdict, why, wish.source),
        };
        let refused = !verdict.passes();
        // what cannot be tunnelled stays refused: a pause is no leave to send it in the clear
        let paused = refused && why != Why::TunnelUnsupported && self.paused(facts.now).is_some();
        if paused {
            steps.note(
                source,
                format_args!("{}, but the firewall is paused", verdict.text()),
            );
        }
        Decision {
            verdict: if paused { Verdict::Allow } else { verdict },
            why: if paused { Why::Paused } else { why },
            source: source.clone(),
            profile: profile.id.clone(),
            permanent: !paused,
        }
    }

    /// The first switch that refuses this flow.
    fn switched_off<'a>(
        &self,
        profile: &'a Compiled,
        facts: &Facts<'_>,
        steps: &mut impl Steps,
    ) -> Option<Switch<'a>> {
        let settings = &profile.settings;
        let incoming = facts.flow.direction == Direction::Incoming;
        let internet = facts.scope == Scope::Internet;
        let direct = !incoming && internet && facts.domains.is_empty() && !self.is_stray_query(facts);
        let switches = [
            (
                &settings.block_incoming,
                Why::BlockIncoming,
                incoming && facts.scope != Scope::Localhost,
            ),
            (
                &settings.block_lan,
                Why::BlockLan,
                matches!(facts.scope, Scope::Lan | Scope::Multicast),
            ),
            (&settings.block_internet, Why::BlockInternet, internet),
            (
                &settings.block_encrypted_dns,
                Why::EncryptedDns,
                // most programs have it off: then nobody looks
                settings.block_encrypted_dns.value && self.is_encrypted_dns(facts),
            ),
            (&settings.block_direct, Why::BlockDirect, direct),
        ];
        for (switch, why, concerned) in switches {
            match (switch.value, concerned) {
                (true, true) => return Some((switch, why)),
                (true, false) => steps.note(&switch.source, format_args!("it is for other connections")),
                (false, _) => steps.note(&switch.source, format_args!("it is off")),
            }
        }
        None
    }

    /// From what is wanted to what can be done.
    fn fulfil(
        &self,
        profile: &Compiled,
        wish: &Wish<'_>,
        facts: &Facts<'_>,
        steps: &mut impl Steps,
    ) -> (Verdict, Why) {
        match wish.action {
            Action::Allow => (Verdict::Allow, wish.why),
            Action::Drop => (Verdict::Drop, wish.why),
            Action::Block if wish.by_rule => (Verdict::Block, wish.why),
            Action::Block => (self.refusal(facts), wish.why),
            Action::Tunnel => self.tunnel(wish, facts, steps),
            Action::Ask => {
                let answer = &profile.settings.ask_timeout_action;
                steps.note(
                    wish.source,
                    format_args!("asks; without an answer {} applies", answer.source),
                );
                // `ask` as its own answer would never end; neither files nor messages can say it.
                let action = if answer.value == Action::Ask {
                    Action::Block
                } else {
                    answer.value
                };
                let answered = Wish {
                    action,
                    why: Why::AskTimeout,
                    by_rule: false,
                    ..*wish
                };
                self.fulfil(profile, &answered, facts, steps)
            }
        }
    }

    fn tunnel(&self, wish: &Wish<'_>, facts: &Facts<'_>, steps: &mut impl Steps) -> (Verdict, Why) {
        if facts.scope == Scope::Localhost {
            steps.note(
                wish.source,
                format_args!("localhost is never tunnelled, it passes"),
            );
            return (Verdict::Allow, wish.why);
        }
        if facts.flow.direction == Direction::Incoming {
            steps.note(
                wish.source,
                format_args!("an incoming connection cannot be tunnelled, it is refused"),
            );
            return (self.refusal(facts), Why::TunnelUnsupported);
        }
        if !wish.by_rule && facts.scope != Scope::Internet {
            steps.note(
                wish.source,
                format_args!("only the internet is tunnelled by default, this passes directly"),
            );
            return (Verdict::Allow, wish.why);
        }
        if facts.flow.protocol.can_be_tunnelled() {
            return (Verdict::Tunnel, wish.why);
        }
        steps.note(
            wish.source,
            format_args!("Gate17 carries only TCP and UDP, this is refused"),
        );
        (Verdict::Block, Why::TunnelUnsupported)
    }

    /// How a switch or default refuses.
    fn refusal(&self, facts: &Facts<'_>) -> Verdict {
        match (facts.flow.direction, self.global.incoming_refusal) {
            (Direction::Incoming, Action::Drop) => Verdict::Drop,
            _ => Verdict::Block,
        }
    }

    /// A DNS query to somebody else than this host, that is to be answered here.
    pub(super) fn is_stray_query(&self, facts: &Facts<'_>) -> bool {
        let flow = &facts.flow;
        self.global.redirect_dns
            && facts.dns_is_served
            && flow.direction == Direction::Outgoing
            && matches!(flow.protocol, Protocol::TCP | Protocol::UDP)
            && flow.remote.port == DNS
            && facts.scope != Scope::Localhost
    }
}

fn first_match<'a>(
    rules: &'a [Rule],
    why: Why,
    facts: &Facts<'_>,
    steps: &mut impl Steps,
) -> Option<Wish<'a>> {
    for rule in rules {
        match outcome(rule, facts) {
            Outcome::Match => {
                return Some(Wish {
                    action: rule.action,
                    why,
                    source: &rule.source,
                    by_rule: true,
                });
            }
            Outcome::NameDecides => {
                steps.note(&rule.source, format_args!("it is for names, and none is known"));
            }
            Outcome::Differs(how) => steps.note(&rule.source, format_args!("{how}")),
        }
    }
    None
}
