//! The heart: who → name → answer → check → tell.
//!
//! A query is judged before it goes anywhere, by the rules of the program that asks; its answer is judged before it is
//! given; and what is told is known to the interceptor before the program can connect. [`Judge::quick`] does all of it
//! without waiting, where everything is known already; [`Judge::slow`] finds out what is not.

mod explain;
mod held;
mod quick;
mod special_names;
mod written;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dns_core::{
    Name,
    cache::Cache,
    special::{self, Outcome},
    wire::{Query, Reply},
};
use verdict::{Verdict, policy::CompiledPolicy};

pub use quick::{Planned, Turn, Waits};
use written::{noted, refusal};

use crate::{
    clients::{Asker, Client, Clients},
    config::Settings,
    filter::{self, Held, Judged, Who},
    link::Link,
    log::{Log, Matter},
    lookup::{Clock, Looked, Lookup},
    names::{Names, News},
    route,
    server::OwnAddresses,
    trace::Trace,
    tunnel::Tunnel,
};

/// Everything that a decision needs; shared by all threads.
#[derive(Debug)]
pub struct Judge<L> {
    /// Who asks.
    pub clients: Clients,
    /// In force.
    pub policy: ArcSwap<CompiledPolicy>,
    /// In force.
    pub lists: ArcSwap<L>,
    /// What was answered before.
    pub cache: Arc<Cache>,
    /// What was not.
    pub lookup: Lookup,
    /// The same for programs that are tunnelled.
    pub tunnel: Tunnel,
    /// What was told to whom.
    pub names: Names,
    /// To the interceptor.
    pub link: Link,
    /// What was asked.
    pub log: Log,
    /// The owner's.
    pub settings: Settings,
    /// Of this host.
    pub own: OwnAddresses,
    /// The cache's.
    pub clock: Clock,
}

/// A query on its way.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// What is asked.
    pub query: &'a Query,
    /// From whom.
    pub client: &'a Client,
    /// How large the answer may be, and what goes with it.
    pub reply: &'a Reply,
    /// When it came.
    pub at: Instant,
}

/// What is to be done, before anything is looked up.
enum Plan {
    Refuse(Judged),
    Special(special::Answered),
    Resolve { judged: Judged, is_local: bool },
}

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    /// Finds out who asks, where that is not known yet.
    pub async fn meet(&self, client: &Client) -> Arc<Asker> {
        self.meet_traced(client, &Trace::none()).await
    }

    async fn meet_traced(&self, client: &Client, trace: &Trace) -> Arc<Asker> {
        match self.clients.look(client).asker {
            Some(asker) => asker,
            None => {
                let hash = self.policy.load().needs_hash();
                let asking = trace.part("attribution");
                self.clients.find(client, hash, &asking.traceparent()).await
            }
        }
    }

    /// Finds out whatever is missing, and writes the answer. `known`: what was found out when the query came.
    pub async fn slow(&self, arrived: &Arrived<'_>, known: Waits<L>, out: &mut Vec<u8>) {
        let mut trace = Trace::begin(arrived.client);
        let Waits { look, may_be_asked } = known;
        let asker = match look.asker {
            Some(asker) => asker,
            None => self.meet_traced(arrived.client, &trace).await,
        };
        let (name, plan) = match &may_be_asked {
            Some(planned) => (Arc::clone(&planned.name), None),
            None => {
                let name = Arc::new(arrived.query.to_question().name);
                let policy = self.policy.load_full();
                let plan = self.plan(&self.who(&asker, &policy), &name, arrived.query);
                (name, Some((plan, policy)))
            }
        };
        let given = match plan {
            Some((Plan::Resolve { judged, is_local }, policy)) if is_tunnelled(&judged, is_local) => {
                let profile = &judged.decision.profile;
                let options = policy.tunnel_options(profile);
                self.tunnel.answer(arrived.query, &asker, profile, options).await
            }
            Some((Plan::Resolve { is_local: false, .. }, policy))
                if asker.is_unsure && policy.may_tunnel() =>
            {
                self.tunnel.unknown(arrived.query)
            }
            None | Some((Plan::Resolve { .. }, _)) => {
                let _asking = trace.part("lookup");
                self.lookup.answer(arrived.query, asker.account()).await
            }
            Some((done, _)) => return self.finish(arrived, &asker, name, done, out),
        };
        // judged again, by what is in force now: an answer may take seconds
        let (policy, lists) = (self.policy.load_full(), self.lists.load_full());
        let who = self.who(&asker, &policy);
        let still = may_be_asked.and_then(|planned| planned.still((&policy, &lists)));
        let (judged, is_local) = match still {
            Some(judged) => judged,
            None => match self.plan(&who, &name, arrived.query) {
                Plan::Resolve { judged, is_local } => (judged, is_local),
                done => return self.finish(arrived, &asker, name, done, out),
            },
        };
        let held = held::of(&given.answer, arrived.query);
        let refused = self.refused(&who, &name, (&judged, is_local), &held);
        // who is told nothing needs nothing to be known
        if refused.is_none()
            && let Some(news) = self.news(&asker, &name, &held, &given)
            && let Err(news) = self.tell_aside(news)
            && self.link.tell(vec![news.message()]).await
        {
            self.names.told(news);
        }
        let upstream = given.upstream.clone();
        let answered = match refused {
            Some(refused) => self.refuse(arrived, refusal(&asker, name, refused), upstream, out),
            None => {
                given.answer.write(arrived.query, given.age, arrived.reply, out);
                let matter = Matter {
                    asker,
                    name,
                    judged,
                    addresses: held.addresses,
                };
                noted(arrived, Arc::new(matter), (given.origin, upstream), out)
            }
        };
        self.write_down(arrived, answered);
        trace.answered(given.origin, out);
    }

    /// A query of our own for a special name is planned under the policy in force, and answered; nothing of it is told.
    pub fn probe(&self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
        let (asker, policy) = (Asker::default(), self.policy.load());
        let name = query.to_question().name;
        if let Plan::Special(answered) = self.plan(&self.who(&asker, &policy), &name, query) {
            answered.write(query, reply, out);
        }
    }

    fn who<'a>(&self, asker: &Asker, policy: &'a CompiledPolicy) -> Who<'a> {
        Who {
            policy,
            profile: asker.profile(policy),
            uid: asker.uid,
            now: daemon::clock::now(),
        }
    }

    fn plan(&self, who: &Who<'_>, name: &Name, query: &Query) -> Plan {
        if let Outcome::Answered(answered) = self.special(who, name, query.kind()) {
            return Plan::Special(answered);
        }
        let is_local = is_local(self.lookup.router().decide(&query.to_question()).why);
        let judged = filter::question(who, name, is_local, &**self.lists.load());
        if judged.passes() {
            Plan::Resolve { judged, is_local }
        } else {
            Plan::Refuse(judged)
        }
    }

    /// Gives it back where it has to be waited for.
    fn tell_aside(&self, news: News) -> Result<(), News> {
        if !self.link.tell_aside(vec![news.message()]) {
            return Err(news);
        }
        self.names.told(news);
        Ok(())
    }

    fn refused(
        &self,
        who: &Who<'_>,
        name: &Name,
        (judged, is_local): (&Judged, bool),
        held: &Held,
    ) -> Option<Judged> {
        let may_be_private = self.settings.may_be_private(name);
        filter::answer(
            who,
            name,
            is_local,
            judged,
            held,
            may_be_private,
            &**self.lists.load(),
        )
    }

    fn news(&self, asker: &Asker, name: &Arc<Name>, held: &Held, given: &Looked) -> Option<News> {
        let ttl = Duration::from_secs(given.answer.lifetime().into());
        self.names.news(asker, name, &held.addresses, ttl)
    }
}

/// What the name stands for would be tunnelled, so the question is: whoever carries it out must not see it either.
fn is_tunnelled(judged: &Judged, is_local: bool) -> bool {
    judged.decision.verdict == Verdict::Tunnel && !is_local
}

/// The name means something on this host or in its networks alone.
const fn is_local(why: route::Why) -> bool {
    matches!(
        why,
        route::Why::Zone | route::Why::SystemDomain | route::Why::Local
    )
}
