//! What may be asked, and what may be answered: by the policy of who asks, the lists, and what the answer holds.
//!
//! Pure: no IO, no clock. The question is judged before it goes anywhere; every name and address of the answer is judged
//! again, since a permitted name may be another one's mask (CNAME cloaking) or point into this network (rebinding).

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use dns_core::Name;
use verdict::{
    Decision, Scope, Verdict, Why,
    policy::{CompiledPolicy, NameDecision, NameFacts, ProfileRef, model::Clocks},
};

/// Lists of names, as far as this module asks.
pub trait Lists {
    /// Each list that has this name, or a zone that it stands in: its own name, and one of its categories.
    fn find(&self, name: &Name, found: &mut dyn FnMut(&Arc<str>, &str));
}

/// Who asks, and what holds for him.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// In force.
    pub policy: &'a CompiledPolicy,
    /// His.
    pub profile: ProfileRef,
    /// His, where known.
    pub uid: Option<u32>,
    /// For rules and pauses that end.
    pub now: Clocks,
}

/// A decision, and the list behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Also for what passes.
    pub decision: Decision,
    /// Whose name it is; where the list decided.
    pub list: Option<Arc<str>>,
    /// The owner's own rule names it.
    pub by_rule: bool,
}

impl Judged {
    /// It may be asked, or answered.
    pub const fn passes(&self) -> bool {
        self.decision.verdict.passes()
    }

    /// Allowed by default, for tests of what is done with it.
    #[cfg(test)]
    pub fn by_default() -> Self {
        Self {
            decision: Decision {
                verdict: Verdict::Allow,
                why: Why::DefaultAction,
                source: "".into(),
                profile: "".into(),
                permanent: true,
            },
            list: None,
            by_rule: false,
        }
    }
}

/// What an answer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Where its chain of aliases leads, in order.
    pub aliases: Vec<Name>,
    /// Of all records, also those that are only hints.
    pub addresses: Vec<IpAddr>,
}

/// Whether `name` may be asked for. `is_local`: it means something on this host or in its network alone.
pub fn question(who: &Who<'_>, name: &Name, is_local: bool, lists: &impl Lists) -> Judged {
    let text = name.to_string();
    let NameDecision { decision, by_rule } =
        who.policy.decide_name(who.profile, &facts(who, &text, is_local));
    let judged = Judged {
        decision,
        list: None,
        by_rule,
    };
    // the owner's own word about this very name stands above every list
    if by_rule || !judged.passes() {
        return judged;
    }
    listed(who, name, &text, lists).unwrap_or(judged)
}

/// Whether what a permitted question is answered with may be told; `None` where nothing speaks against it. `may_be_private`:
/// addresses of this network are expected behind this name.
pub fn answer(
    who: &Who<'_>,
    name: &Name,
    is_local: bool,
    question: &Judged,
    held: &Held,
    may_be_private: bool,
    lists: &impl Lists,
) -> Option<Judged> {
    let alias = held
        .aliases
        .iter()
        .find_map(|alias| refused_alias(who, alias, question, lists));
    if alias.is_some() {
        return alias;
    }
    let text = name.to_string();
    let facts = facts(who, &text, is_local);
    held.addresses.iter().find_map(|address| {
        let refused = who.policy.decide_address(who.profile, &facts, *address);
        let rebound = || {
            (is_inside(*address) && !is_local && !may_be_private && !question.by_rule)
                .then(|| verdict_of(who, Verdict::Block, Why::DnsRebinding, "dns#rebinding".into()))
        };
        let decision = refused.or_else(rebound)?;
        (!decision.verdict.passes()).then_some(Judged {
            decision,
            list: None,
            by_rule: false,
        })
    })
}

/// This host, or its network; also by way of a translator (NAT64), whose well-known prefix is for public addresses alone
/// (RFC 6052 §3.1).
fn is_inside(address: IpAddr) -> bool {
    let is_near = |address| matches!(Scope::of(address), Scope::Localhost | Scope::Lan);
    let translated = match address {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
            }
            _ => None,
        },
        IpAddr::V4(_) => None,
    };
    is_near(address) || translated.is_some_and(|v4| is_near(v4.into()))
}

/// An alias need not be permitted, but it must not be refused.
fn refused_alias(who: &Who<'_>, alias: &Name, question: &Judged, lists: &impl Lists) -> Option<Judged> {
    let text = alias.to_string();
    let NameDecision { decision, by_rule } = who.policy.decide_name(who.profile, &facts(who, &text, false));
    if by_rule {
        return (!decision.verdict.passes()).then_some(Judged {
            decision,
            list: None,
            by_rule,
        });
    }
    if question.by_rule {
        return None;
    }
    listed(who, alias, &text, lists).filter(|judged| !judged.passes())
}

/// It is the name of a resolver that this profile may not ask, or a list that it filters by has it.
fn listed(who: &Who<'_>, name: &Name, text: &str, lists: &impl Lists) -> Option<Judged> {
    if let Some(source) = who.policy.blocks_resolver(who.profile, text) {
        return Some(Judged {
            decision: verdict_of(who, Verdict::Block, Why::EncryptedDns, source),
            list: None,
            by_rule: false,
        });
    }
    let mut found = None;
    lists.find(name, &mut |list, category| {
        if found.is_none()
            && let Some(source) = who.policy.blocks_list(who.profile, category)
        {
            found = Some((Arc::clone(list), source));
        }
    });
    let (list, source) = found?;
    Some(Judged {
        decision: verdict_of(who, Verdict::Block, Why::DnsList, source),
        list: Some(list),
        by_rule: false,
    })
}

/// A refusal, unless the owner paused the firewall.
fn verdict_of(who: &Who<'_>, verdict: Verdict, why: Why, source: Arc<str>) -> Decision {
    let paused = who.policy.paused(who.now).is_some();
    Decision {
        verdict: if paused { Verdict::Allow } else { verdict },
        why: if paused { Why::Paused } else { why },
        source,
        profile: who.policy.profile_id(who.profile),
        permanent: !paused,
    }
}

const fn facts<'a>(who: &Who<'_>, name: &'a str, is_local: bool) -> NameFacts<'a> {
    NameFacts {
        name,
        is_local,
        uid: who.uid,
        now: who.now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict::policy::{file, model::Snapshot};

    struct Ads(Arc<str>);

    impl Lists for Ads {
        fn find(&self, name: &Name, found: &mut dyn FnMut(&Arc<str>, &str)) {
            if name.is_within(&"ads.test".parse().unwrap()) {
                found(&self.0, "ads");
            }
        }
    }

    fn policy(text: &str) -> CompiledPolicy {
        CompiledPolicy::new(Snapshot {
            version: 1,
            global: file::parse_global("global.toml", text, &|_| None).unwrap(),
            profiles: Vec::new(),
            pause: None,
        })
        .unwrap()
    }

    fn who(policy: &CompiledPolicy) -> Who<'_> {
        Who {
            policy,
            profile: ProfileRef::GLOBAL,
            uid: None,
            now: std::time::SystemTime::UNIX_EPOCH.into(),
        }
    }

    fn says(judged: &Judged) -> String {
        let list = judged.list.as_deref().unwrap_or("-");
        let decision = &judged.decision;
        format!(
            "{} {} {} {list}",
            decision.verdict.text(),
            decision.why,
            decision.source
        )
    }

    fn asked(policy: &CompiledPolicy, name: &str) -> String {
        says(&question(
            &who(policy),
            &name.parse().unwrap(),
            false,
            &Ads("our-ads".into()),
        ))
    }

    fn answered(policy: &CompiledPolicy, name: &str, aliases: &[&str], addresses: &[&str]) -> String {
        let (who, name, lists) = (who(policy), name.parse().unwrap(), Ads("our-ads".into()));
        let question = question(&who, &name, false, &lists);
        assert!(question.passes());
        let held = Held {
            aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        answer(&who, &name, false, &question, &held, false, &lists)
            .map_or("told".into(), |judged| says(&judged))
    }

    #[test]
    fn a_listed_name_is_refused_unless_a_rule_or_the_profile_says_otherwise() {
        let shipped = policy("");
        assert_eq!(
            asked(&shipped, "x.ads.test"),
            "block dns-list shipped#block_lists our-ads"
        );
        assert_eq!(
            asked(&shipped, "fine.test"),
            "allow default-action shipped#default_action -"
        );
        let allowed = policy("[[rule]]\naction = \"allow\"\nremote = \"x.ads.test\"\n");
        assert_eq!(asked(&allowed, "x.ads.test"), "allow global-rule global#1 -");
        assert_eq!(
            asked(&allowed, "y.ads.test"),
            "block dns-list shipped#block_lists our-ads"
        );
        let without = policy("[settings]\nblock_lists = [\"malware\"]\n");
        assert_eq!(
            asked(&without, "x.ads.test"),
            "allow default-action shipped#default_action -"
        );
        let everything = policy("[[rule]]\naction = \"allow\"\n");
        assert_eq!(
            asked(&everything, "x.ads.test"),
            "block dns-list shipped#block_lists our-ads",
            "a rule for everything is not about this name"
        );
    }

    #[test]
    fn a_resolvers_name_is_refused_to_who_may_not_ask_it_unless_a_rule_names_it() {
        assert_eq!(
            asked(&policy(""), "dns.google"),
            "allow default-action shipped#default_action -"
        );
        let text = "[settings]\nblock_encrypted_dns = true\n";
        let blocked = policy(text);
        let refused = "block encrypted-dns global#block_encrypted_dns -";
        assert_eq!(asked(&blocked, "dns.google"), refused);
        assert_eq!(asked(&blocked, "Me.Dns.NextDNS.io"), refused);
        assert_eq!(
            answered(&blocked, "shop.test", &["dns.google"], &["203.0.113.1"]),
            refused,
            "an alias is no way round"
        );
        let ruled = policy(&format!(
            "{text}[[rule]]\naction = \"allow\"\nremote = \"dns.google\"\n"
        ));
        assert_eq!(asked(&ruled, "dns.google"), "allow global-rule global#1 -");
    }

    #[test]
    fn a_mask_is_seen_through() {
        let shipped = policy("");
        assert_eq!(
            answered(&shipped, "metrics.shop.test", &["x.ads.test"], &["203.0.113.1"]),
            "block dns-list shipped#block_lists our-ads"
        );
        let own = policy("[[rule]]\naction = \"allow\"\nremote = \"metrics.shop.test\"\n");
        assert_eq!(
            answered(&own, "metrics.shop.test", &["x.ads.test"], &["203.0.113.1"]),
            "told"
        );
        let strict = policy(concat!(
            "[settings]\ndefault_action = \"block\"\n",
            "[[rule]]\naction = \"block\"\nremote = \"*.evil.test\"\n",
            "[[rule]]\naction = \"allow\"\nremote = \"shop.test\"\n",
        ));
        assert_eq!(
            answered(&strict, "shop.test", &["cdn.test"], &["203.0.113.1"]),
            "told"
        );
        assert_eq!(
            answered(&strict, "shop.test", &["a.evil.test"], &["203.0.113.1"]),
            "block global-rule global#1 -"
        );
    }

    #[test]
    fn a_name_of_the_internet_does_not_point_inside() {
        let shipped = policy("");
        for inside in [
            "127.0.0.1",
            "192.168.1.1",
            "10.0.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::192.168.1.1",
        ] {
            assert_eq!(
                answered(&shipped, "evil.test", &[], &["203.0.113.1", inside]),
                "block dns-rebinding dns#rebinding -",
                "{inside}"
            );
        }
        for outside in ["203.0.113.1", "2001:db8::1", "64:ff9b::203.0.113.1"] {
            assert_eq!(
                answered(&shipped, "fine.test", &[], &[outside]),
                "told",
                "{outside}"
            );
        }
        let own = policy("[[rule]]\naction = \"allow\"\nremote = \"nas.test\"\n");
        assert_eq!(answered(&own, "nas.test", &[], &["192.168.1.1"]), "told");
    }
}
