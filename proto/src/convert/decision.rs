//! Decisions.

use verdict::{Decision, Verdict, Why};

use super::{Error, word, words};
use crate::flow::v1;

words!(v1::Verdict, Verdict, [Allow, Block, Drop, Tunnel, RedirectDns]);
words!(
    v1::Why,
    Why,
    [
        Rule,
        GlobalRule,
        BlockIncoming,
        BlockLan,
        BlockInternet,
        BlockDirect,
        DefaultAction,
        AskTimeout,
        TunnelUnsupported,
        Unparsable,
        Overload,
        NameWanted,
        DnsRedirect,
        Mesh,
        Paused,
        DnsList,
        DnsRebinding,
        DnsSpecial,
        EncryptedDns,
        TunnelRefused,
        TunnelUnavailable,
        TunnelLate,
        TunnelUnsure,
    ]
);

impl From<&Decision> for v1::Decision {
    fn from(decision: &Decision) -> Self {
        Self {
            verdict: v1::Verdict::from(decision.verdict).into(),
            why: v1::Why::from(decision.why).into(),
            source: decision.source.to_string(),
            profile: decision.profile.to_string(),
            permanent: decision.permanent,
        }
    }
}

impl TryFrom<v1::Decision> for Decision {
    type Error = Error;

    fn try_from(wire: v1::Decision) -> Result<Self, Error> {
        Ok(Self {
            verdict: word::<v1::Verdict, _>("verdict", wire.verdict)?,
            why: word::<v1::Why, _>("why", wire.why)?,
            source: wire.source.into(),
            profile: wire.profile.into(),
            permanent: wire.permanent,
        })
    }
}
