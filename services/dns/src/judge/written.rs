//! Answers that need nobody else, and what is written down of all.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use dns_core::{
    Name, special,
    wire::{Blocked, Manner, code, extended},
};
use verdict::{Decision, Verdict, Why};

use super::{Arrived, Judge, Plan};
use crate::{
    clients::Asker,
    filter::{self, Judged, Who},
    log::{self, Matter, Origin},
    memo::Refused,
};

/// For how long a client may keep a refusal, in seconds: a rule that is taken back holds soon.
const REFUSAL_TTL: u32 = 10;

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    pub(super) fn write_down(&self, arrived: &Arrived<'_>, answered: log::Query) {
        self.log.write([log::Query {
            time: SystemTime::now(),
            took: arrived.at.elapsed(),
            ..answered
        }]);
    }

    /// Answers a query that needs nobody else.
    pub(super) fn finish(
        &self,
        arrived: &Arrived<'_>,
        asker: &Arc<Asker>,
        name: Arc<Name>,
        plan: Plan,
        out: &mut Vec<u8>,
    ) {
        let answered = match plan {
            Plan::Refuse(judged) => self.refuse(arrived, refusal(asker, name, judged), None, out),
            Plan::Special(answered) => self.special_answer(arrived, asker, name, &answered, out),
            Plan::Resolve { .. } => return,
        };
        self.write_down(arrived, answered);
    }

    pub(super) fn special_answer(
        &self,
        arrived: &Arrived<'_>,
        asker: &Arc<Asker>,
        name: Arc<Name>,
        answered: &special::Answered,
        out: &mut Vec<u8>,
    ) -> log::Query {
        answered.write(arrived.query, arrived.reply, out);
        let policy = self.policy.load();
        let matter = Matter {
            asker: Arc::clone(asker),
            name,
            judged: special_decision(&self.who(asker, &policy)),
            addresses: Vec::new(),
        };
        noted(arrived, Arc::new(matter), (Origin::Special, None), out)
    }

    /// `upstream`: who gave the answer that is refused.
    pub(super) fn refuse(
        &self,
        arrived: &Arrived<'_>,
        refused: Refused,
        upstream: Option<Arc<str>>,
        out: &mut Vec<u8>,
    ) -> log::Query {
        let manner = match refused.matter.judged.decision.verdict {
            // who is not to be answered by a rule's word gets what looks like no such name all the same: a silent server
            // would only be asked again
            Verdict::Drop | Verdict::Block => self.settings.blocked_answer,
            _ => Manner::NxDomain,
        };
        let blocked = Blocked {
            manner,
            extended: extended::BLOCKED,
            reason: &refused.reason,
            ttl: REFUSAL_TTL,
        };
        blocked.write(arrived.query, arrived.reply, out);
        noted(arrived, refused.matter, (Origin::Refused, upstream), out)
    }
}

pub(super) fn refusal(asker: &Arc<Asker>, name: Arc<Name>, judged: Judged) -> Refused {
    let Decision { why, source, .. } = &judged.decision;
    let reason = match &judged.list {
        Some(list) => format!("{why}: {list} ({source})"),
        None => format!("{why}: {source}"),
    };
    let matter = Matter {
        asker: Arc::clone(asker),
        name,
        judged,
        addresses: Vec::new(),
    };
    Refused {
        matter: Arc::new(matter),
        reason: reason.into(),
    }
}

/// For the log; without its times.
pub(super) fn noted(
    arrived: &Arrived<'_>,
    matter: Arc<Matter>,
    (origin, upstream): (Origin, Option<Arc<str>>),
    out: &[u8],
) -> log::Query {
    log::Query {
        time: SystemTime::UNIX_EPOCH,
        matter,
        kind: arrived.query.kind(),
        code: out.get(3).map_or(code::SERVFAIL, |flags| u16::from(flags & 0x0f)),
        origin,
        upstream,
        took: Duration::ZERO,
        tcp: arrived.client.protocol == verdict::Protocol::TCP,
    }
}

pub(super) fn special_decision(who: &Who<'_>) -> Judged {
    Judged {
        decision: Decision {
            verdict: Verdict::Allow,
            why: Why::DnsSpecial,
            source: "dns#special".into(),
            profile: who.policy.profile_id(who.profile),
            permanent: true,
        },
        list: None,
        by_rule: false,
    }
}
