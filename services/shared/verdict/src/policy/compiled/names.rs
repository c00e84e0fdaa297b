//! Which names a program may have resolved, and which addresses it may be told for them.
//!
//! A query leaves this host whatever becomes of its answer, so a name is refused before it is asked: a program that may
//! reach nobody cannot tell anybody anything by the names that it asks for. A rule that names addresses alone does not
//! permit a name, and one that refuses only some ports or protocols does not refuse it.

use std::net::IpAddr;

use super::{
    Compiled, CompiledPolicy, ProfileRef,
    matching::{covers_address, covers_name},
    settings::{ALL_LISTS, Set},
};
use crate::{
    Decision, Direction, Scope, Source, Verdict, Why,
    policy::model::{Action, Clocks, Remote, Rule},
};

/// A name that a program asks for.
#[derive(Clone, Copy, Debug)]
pub struct NameFacts<'a> {
    /// Lower case, no closing dot.
    pub name: &'a str,
    /// It stands for something on this host or its network, by a registry or by the owner's routes.
    pub is_local: bool,
    /// Who asks, where known.
    pub uid: Option<u32>,
    /// For rules and pauses that end.
    pub now: Clocks,
}

/// What becomes of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameDecision {
    /// [`Verdict::Allow`], [`Verdict::Tunnel`] (resolve it, what follows is tunnelled), [`Verdict::Block`] or
    /// [`Verdict::Drop`], with its reason.
    pub decision: Decision,
    /// A rule names it: the owner's own word, which lists do not override.
    pub by_rule: bool,
}

impl CompiledPolicy {
    /// Whether a program of this profile may have a name resolved.
    pub fn decide_name(&self, profile: ProfileRef, facts: &NameFacts<'_>) -> NameDecision {
        let profile = self.compiled(profile);
        let find = |rules: &[Rule], why| {
            let rule = rules.iter().find(|rule| says_of_name(rule, facts));
            rule.map(|rule| (rule.action, why, rule.source.clone(), names(rule)))
        };
        let said = find(&profile.rules, Why::Rule)
            .or_else(|| find(&self.global.rules, Why::GlobalRule))
            .or_else(|| {
                let (switch, why) = unreachable(profile, facts.is_local)?;
                Some((Action::Block, why, switch.source.clone(), false))
            });
        let (action, why, source, by_rule) = said.unwrap_or_else(|| {
            let default = &profile.settings.default_action;
            (default.value, Why::DefaultAction, default.source.clone(), false)
        });
        NameDecision {
            decision: self.decision_of(profile, action, why, source, facts.now),
            by_rule,
        }
    }

    /// Whether this profile refuses the names of a list of that category, and which setting says so.
    pub fn blocks_list(&self, profile: ProfileRef, category: &str) -> Option<Source> {
        let lists = &self.compiled(profile).settings.block_lists;
        let meant = |word: &String| word == ALL_LISTS || word == category;
        lists.value.iter().any(meant).then(|| lists.source.clone())
    }

    /// Whether a program may be told that address: `None` where nothing speaks against it.
    pub fn decide_address(
        &self,
        profile: ProfileRef,
        facts: &NameFacts<'_>,
        address: IpAddr,
    ) -> Option<Decision> {
        let profile = self.compiled(profile);
        let scope = Scope::of(address);
        let find = |rules: &[Rule], why| {
            let rule = rules
                .iter()
                .find(|rule| says_of_address(rule, facts, address, scope));
            rule.map(|rule| (rule.action, why, rule.source.clone()))
        };
        let switch = || {
            let settings = &profile.settings;
            let (switch, why) = match scope {
                Scope::Lan | Scope::Multicast => (&settings.block_lan, Why::BlockLan),
                Scope::Internet => (&settings.block_internet, Why::BlockInternet),
                Scope::Localhost => return None,
            };
            switch.value.then(|| (Action::Block, why, switch.source.clone()))
        };
        let (action, why, source) = find(&profile.rules, Why::Rule)
            .or_else(|| find(&self.global.rules, Why::GlobalRule))
            .or_else(switch)?;
        let decision = self.decision_of(profile, action, why, source, facts.now);
        (!decision.verdict.passes()).then_some(decision)
    }

    fn decision_of(
        &self,
        profile: &Compiled,
        action: Action,
        why: Why,
        source: Source,
        now: Clocks,
    ) -> Decision {
        let (action, why) = match action {
            Action::Ask => (profile.settings.ask_timeout_action.value, Why::AskTimeout),
            other => (other, why),
        };
        let verdict = match action {
            Action::Allow => Verdict::Allow,
            Action::Tunnel => Verdict::Tunnel,
            Action::Drop => Verdict::Drop,
            Action::Block | Action::Ask => Verdict::Block,
        };
        let paused = !verdict.passes() && self.paused(now).is_some();
        Decision {
            verdict: if paused { Verdict::Allow } else { verdict },
            why: if paused { Why::Paused } else { why },
            source,
            profile: profile.id.clone(),
            permanent: !paused,
        }
    }
}

/// A rule about everything behind a name, whatever it resolves to.
fn says_of_name(rule: &Rule, facts: &NameFacts<'_>) -> bool {
    let permits = matches!(rule.action, Action::Allow | Action::Tunnel | Action::Ask);
    is_for(rule, facts)
        && (permits || is_for_every_port(rule))
        && (rule.remotes.is_empty()
            || rule.remotes.iter().any(|remote| match remote {
                Remote::Domain(_) | Remote::Zone(_) => covers_name(remote, facts.name),
                // where it lies is not known yet; what is refused there is refused when the answer is
                Remote::Scope(Scope::Internet) => permits && !facts.is_local,
                Remote::Scope(Scope::Lan) => permits && facts.is_local,
                Remote::Scope(_) | Remote::Network(_) | Remote::Range(..) => false,
            }))
}

/// A rule about an address, or about the name that led to it.
fn says_of_address(rule: &Rule, facts: &NameFacts<'_>, address: IpAddr, scope: Scope) -> bool {
    let permits = matches!(rule.action, Action::Allow | Action::Tunnel);
    is_for(rule, facts)
        && (permits || is_for_every_port(rule))
        && (rule.remotes.is_empty()
            || rule
                .remotes
                .iter()
                .any(|remote| covers_name(remote, facts.name) || covers_address(remote, address, scope)))
}

fn is_for(rule: &Rule, facts: &NameFacts<'_>) -> bool {
    rule.direction != Some(Direction::Incoming)
        && rule.icmp_types.is_empty()
        && rule.expires.is_none_or(|expires| expires > facts.now.wall)
        && (rule.uids.is_empty() || facts.uid.is_some_and(|uid| rule.uids.contains(&uid)))
}

const fn is_for_every_port(rule: &Rule) -> bool {
    rule.protocols.is_empty() && rule.remote_ports.is_empty() && rule.local_ports.is_empty()
}

/// The rule has this name in it, and is not about all names.
fn names(rule: &Rule) -> bool {
    rule.remotes
        .iter()
        .any(|remote| matches!(remote, Remote::Domain(_) | Remote::Zone(_)))
}

/// The switch that leaves nothing to be reached behind such a name.
fn unreachable(profile: &Compiled, is_local: bool) -> Option<(&Set<bool>, Why)> {
    let settings = &profile.settings;
    let (switch, why) = match is_local {
        true => (&settings.block_lan, Why::BlockLan),
        false => (&settings.block_internet, Why::BlockInternet),
    };
    switch.value.then_some((switch, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        file,
        model::{Global, Snapshot},
    };

    const NOW: std::time::SystemTime = std::time::SystemTime::UNIX_EPOCH;

    fn policy(text: &str) -> CompiledPolicy {
        let global: Global = file::parse_global("global.toml", text, &|_| None).unwrap();
        CompiledPolicy::new(Snapshot {
            version: 1,
            global,
            profiles: Vec::new(),
            pause: None,
        })
        .unwrap()
    }

    fn facts(name: &str) -> NameFacts<'_> {
        NameFacts {
            name,
            is_local: name.ends_with(".lan"),
            uid: Some(1000),
            now: NOW.into(),
        }
    }

    fn name(policy: &CompiledPolicy, name: &str) -> String {
        let Decision {
            verdict, why, source, ..
        } = policy.decide_name(ProfileRef::GLOBAL, &facts(name)).decision;
        format!("{} {why} {source}", verdict.text())
    }

    fn address(policy: &CompiledPolicy, asked: &str, address: &str) -> String {
        let said = policy.decide_address(ProfileRef::GLOBAL, &facts(asked), address.parse().unwrap());
        said.map_or_else(
            || "told".to_owned(),
            |decision| format!("{} {} {}", decision.verdict.text(), decision.why, decision.source),
        )
    }

    #[test]
    fn as_shipped_every_name_is_resolved() {
        let policy = policy("");
        assert_eq!(
            name(&policy, "example.org"),
            "allow default-action shipped#default_action"
        );
        assert_eq!(address(&policy, "example.org", "93.184.216.34"), "told");
        assert_eq!(address(&policy, "example.org", "127.0.0.1"), "told");
    }

    #[test]
    fn the_first_rule_that_names_it_decides() {
        let policy = policy(concat!(
            "[[rule]]\naction = \"allow\"\nremote = \"good.ads.test\"\n",
            "[[rule]]\naction = \"block\"\nremote = \"*.ads.test\"\n",
            "[[rule]]\naction = \"block\"\nremote = \"mail.test\"\nremote_port = 25\n",
        ));
        assert_eq!(name(&policy, "good.ads.test"), "allow global-rule global#1");
        assert_eq!(name(&policy, "x.ads.test"), "block global-rule global#2");
        let mail = name(&policy, "mail.test");
        assert_eq!(
            mail, "allow default-action shipped#default_action",
            "its other ports are open"
        );
        let ruled = |asked| policy.decide_name(ProfileRef::GLOBAL, &facts(asked)).by_rule;
        assert!(ruled("good.ads.test") && !ruled("other.test"));
    }

    #[test]
    fn who_may_reach_only_some_names_gets_only_those() {
        let policy = policy(concat!(
            "[settings]\ndefault_action = \"block\"\n",
            "[[rule]]\naction = \"allow\"\nremote = \"*.fine.test\"\nremote_port = 443\n",
            "[[rule]]\naction = \"allow\"\nremote = \"198.51.100.0/24\"\n",
        ));
        assert_eq!(name(&policy, "www.fine.test"), "allow global-rule global#1");
        let other = name(&policy, "secret.tunnel.test");
        assert_eq!(other, "block default-action global#default_action");
        assert_eq!(address(&policy, "www.fine.test", "203.0.113.1"), "told");
    }

    #[test]
    fn who_may_reach_the_internet_or_all_may_ask_for_it() {
        let internet = policy(concat!(
            "[settings]\ndefault_action = \"ask\"\n",
            "[[rule]]\naction = \"allow\"\nremote = \"internet\"\nremote_port = 443\n",
        ));
        assert_eq!(name(&internet, "a.test"), "allow global-rule global#1");
        assert_eq!(
            name(&internet, "printer.lan"),
            "block ask-timeout global#default_action"
        );
        let all = policy(
            "[settings]\ndefault_action = \"block\"\n[[rule]]\naction = \"allow\"\nremote_port = 443\n",
        );
        assert_eq!(name(&all, "a.test"), "allow global-rule global#1");
    }

    #[test]
    fn switches_refuse_the_names_and_the_addresses_that_they_are_for() {
        let policy = policy("[settings]\nblock_internet = true\n");
        assert_eq!(
            name(&policy, "a.test"),
            "block block-internet global#block_internet"
        );
        let local = name(&policy, "printer.lan");
        assert_eq!(local, "allow default-action shipped#default_action");
        assert_eq!(
            address(&policy, "printer.lan", "9.9.9.9"),
            "block block-internet global#block_internet"
        );
        assert_eq!(address(&policy, "printer.lan", "192.168.1.5"), "told");
    }

    #[test]
    fn a_profile_chooses_the_lists_that_hold_for_it() {
        let blocks = |text, category| policy(text).blocks_list(ProfileRef::GLOBAL, category);
        assert_eq!(blocks("", "ads").as_deref(), Some("shipped#block_lists"));
        let some = "[settings]\nblock_lists = [\"malware\", \"adult\"]\n";
        assert_eq!(blocks(some, "malware").as_deref(), Some("global#block_lists"));
        assert_eq!(blocks(some, "ads"), None);
        assert_eq!(blocks("[settings]\nblock_lists = []\n", "ads"), None);
    }

    #[test]
    fn an_address_that_a_rule_refuses_is_not_told() {
        let policy = policy(concat!(
            "[[rule]]\naction = \"allow\"\nremote = \"fine.test\"\n",
            "[[rule]]\naction = \"drop\"\nremote = \"203.0.113.0/24\"\n",
        ));
        assert_eq!(
            address(&policy, "a.test", "203.0.113.9"),
            "drop global-rule global#2"
        );
        assert_eq!(
            address(&policy, "fine.test", "203.0.113.9"),
            "told",
            "its name is permitted"
        );
    }
}
