//! Flows of which nobody could say whose they are.

use super::{CompiledPolicy, Facts, ProfileRef};
use crate::{Decision, Scope, Verdict, Why};

impl CompiledPolicy {
    /// Decides a flow that may be anybody's, since it could not be found out whose it is: as that of an unknown process; but
    /// refused where it would pass directly, and some program's that is tunnelled would not. What a profile for unknown processes
    /// says itself (`unknown = true`) is the owner's word, and holds.
    pub fn decide_unsure(&self, facts: &Facts<'_>) -> Decision {
        let profile = self.profile_for(None);
        let decision = self.decide(profile, facts);
        let directly = decision.verdict == Verdict::Allow && facts.scope != Scope::Localhost;
        if !directly || self.is_said_by(profile, &decision) || !self.could_be_tunnelled(facts) {
            return decision;
        }
        Decision {
            verdict: Verdict::Block,
            why: Why::TunnelUnsure,
            permanent: false,
            ..decision
        }
    }

    fn is_said_by(&self, profile: ProfileRef, decision: &Decision) -> bool {
        let id = &self.compiled(profile).id;
        let rest = decision.source.strip_prefix(&**id);
        !id.is_empty() && rest.is_some_and(|rest| rest.starts_with('#'))
    }

    /// By somebody's profile it is to be tunnelled, or is refused since it cannot be; or would be, if its name were known.
    fn could_be_tunnelled(&self, facts: &Facts<'_>) -> bool {
        self.tunnelling.iter().any(|profile| {
            let decision = self.decide(*profile, facts);
            decision.verdict == Verdict::Tunnel
                || decision.why == Why::TunnelUnsupported
                || self.wants_name(*profile, facts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, out, policy};
    use crate::policy::CompiledPolicy;

    const WEB: &str = "93.184.216.34";
    const CURL: &str = "[[match]]\npath = \"/usr/bin/curl\"\n";

    fn decided(policy: &CompiledPolicy, remote: &str, domains: &[&str]) -> String {
        let decision = policy.decide_unsure(&facts(out(remote, 443), domains));
        format!("{} {}", decision.verdict.text(), decision.why)
    }

    fn with(curl: &str, global: &str, unknown: &str) -> CompiledPolicy {
        let unknown = format!("[[match]]\nunknown = true\n{unknown}");
        policy(
            global,
            &[("curl", &format!("{CURL}{curl}")), ("unknown", &unknown)],
        )
    }

    const TUNNEL: &str = "[settings]\ndefault_action = \"tunnel\"\n";
    const ALLOW: &str = "[settings]\ndefault_action = \"allow\"\n";

    #[test]
    fn what_may_be_a_tunnelled_programs_does_not_pass_directly() {
        assert_eq!(
            decided(&with("", "", ""), WEB, &[]),
            "allow default-action",
            "nobody is tunnelled"
        );
        let policy = with(TUNNEL, "", "");
        assert_eq!(decided(&policy, WEB, &[]), "block tunnel-unsure");
        assert_eq!(
            decided(&policy, "192.168.1.9", &[]),
            "allow default-action",
            "nor would curl's be"
        );
        assert_eq!(decided(&policy, "127.0.0.1", &[]), "allow global-rule");
    }

    #[test]
    fn the_owners_word_about_unknown_processes_holds() {
        assert_eq!(
            decided(&with(TUNNEL, "", ALLOW), WEB, &[]),
            "allow default-action"
        );
        assert_eq!(
            decided(&with(TUNNEL, ALLOW, ""), WEB, &[]),
            "block tunnel-unsure",
            "that is about everybody"
        );
        assert_eq!(
            decided(&with(TUNNEL, "", TUNNEL), WEB, &[]),
            "tunnel default-action"
        );
        let rule = "[[rule]]\naction = \"allow\"\nremote = \"internet\"\n";
        assert_eq!(
            decided(&with(TUNNEL, rule, ""), WEB, &[]),
            "allow global-rule",
            "it is for curl as well"
        );
    }

    #[test]
    fn a_name_that_would_be_tunnelled_is_enough() {
        let policy = with(
            "[[rule]]\naction = \"tunnel\"\nremote = \"*.example.org\"\n",
            "",
            "",
        );
        assert_eq!(
            decided(&policy, WEB, &[]),
            "block tunnel-unsure",
            "it may be this name"
        );
        assert_eq!(decided(&policy, WEB, &["www.example.org"]), "block tunnel-unsure");
        assert_eq!(decided(&policy, WEB, &["example.net"]), "allow default-action");
    }
}
