//! From a question to an answer: the cache, else the upstreams; equal questions are asked once.
//!
//! Invariant: whoever asks gets an answer. Where upstreams fail that is the last one known, however stale within the bound
//! (RFC 8767), else a failure with its reason (RFC 8914). And no asker has more questions under way than its part, so that
//! one that asks for everything leaves the upstreams to the others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use daemon::metrics::Histogram;
use dns_core::{
    cache::{Cache, Found},
    wire::{Age, Answer, Bounds, Key, Query, Response, code, extended},
};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    log::Origin,
    route::Router,
    server::{Flights, Outstanding, Place},
    upstream::{self, Error},
};

/// A client that has waited so long is given what is known, however old (RFC 8767 §5).
const PATIENCE: Duration = Duration::from_millis(1800);

/// Questions of one asker that are under way at once: more than a browser with many pages has, and a part of what an
/// upstream takes ([`crate::upstream::PoolSettings`]).
const MOST_OF_ONE: usize = 128;
/// Questions that are under way at once.
const MOST: usize = 4096;

/// An answer, and where it came from.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The answer.
    pub answer: Arc<Answer>,
    /// How old it is.
    pub age: Age,
    /// Where it came from.
    pub origin: Origin,
    /// Who answered, where an upstream did.
    pub upstream: Option<Arc<str>>,
}

/// The time since any moment, always the same; never set.
pub type Clock = fn() -> Duration;

impl Looked {
    const fn stale(answer: Arc<Answer>) -> Self {
        Self {
            answer,
            age: Age::Stale,
            origin: Origin::Stale,
            upstream: None,
        }
    }
}

/// Clones are the same.
#[derive(Clone)]
pub struct Lookup(Arc<Inner>);

struct Inner {
    cache: Arc<Cache>,
    router: Router,
    bounds: Bounds,
    clock: Clock,
    flights: Flights<Key, Looked>,
    under_way: Arc<Outstanding>,
    asking: Histogram,
    /// Where what costs time to compute is asked.
    apart: Handle,
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").finish_non_exhaustive()
    }
}

impl Lookup {
    /// `clock`: the cache's. Must be called within the runtime where upstreams are asked whose answers cost more than a datagram:
    /// handshakes and signatures. The others are asked by whoever wants to know.
    pub fn new(cache: Arc<Cache>, router: Router, bounds: Bounds, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            cache,
            router,
            bounds,
            clock,
            flights: Flights::default(),
            under_way: Outstanding::new(MOST, MOST_OF_ONE),
            asking: Histogram::default(),
            apart: Handle::current(),
        }))
    }

    /// Who is asked for what.
    pub fn router(&self) -> &Router {
        &self.0.router
    }

    /// How long upstreams took.
    pub fn asking(&self) -> &Histogram {
        &self.0.asking
    }

    /// Who waits for upstreams, and who was turned away.
    pub fn under_way(&self) -> &Outstanding {
        &self.0.under_way
    }

    /// Answers in any case. `account`: on whose it is asked, where somebody has to be.
    pub async fn answer(&self, query: &Query, account: u64) -> Looked {
        let key = query.key();
        match self.0.cache.get(key, (self.0.clock)()) {
            Found::Fresh { answer, age, refresh } => {
                if refresh {
                    // whose turn it is to wait for it is nobody's, and it is one for each name that is used
                    drop(self.ask(key, None));
                }
                Looked {
                    answer,
                    age: Age::Fresh(age),
                    origin: Origin::Cache,
                    upstream: None,
                }
            }
            Found::Stale(answer) => Looked::stale(answer),
            Found::Miss => match self.0.under_way.enter(account.into()) {
                Some(place) => self.wait(key, place).await,
                None => self.0.turned_away(key),
            },
        }
    }

    async fn wait(&self, key: &Key, place: Place) -> Looked {
        let mut asked = self.ask(key, Some(place));
        let answered = match tokio::time::timeout(PATIENCE, &mut asked).await {
            Ok(answered) => answered,
            Err(_) => match self.0.cache.stale(key, (self.0.clock)()) {
                Some(answer) => return Looked::stale(answer),
                None => asked.await,
            },
        };
        answered.unwrap_or_else(|_| {
            self.0
                .failed(key, extended::NOT_READY, "the question was given up")
        })
    }

    /// Joins those who wait for the same, or asks. What is asked is asked to its end, whoever goes away, and takes its place
    /// until then: who asks and goes has no more of them than who waits.
    fn ask(&self, key: &Key, place: Option<Place>) -> JoinHandle<Looked> {
        let (inner, key) = (Arc::clone(&self.0), key.clone());
        let is_plain = inner.router.is_plain(&key.to_question());
        let asking = async move {
            let _place = place;
            let ask = || {
                let (inner, key) = (Arc::clone(&inner), key.clone());
                async move { Box::pin(inner.resolve(&key)).await }
            };
            inner.flights.share(&key, ask).await
        };
        match is_plain {
            true => tokio::spawn(asking),
            false => self.0.apart.spawn(asking),
        }
    }
}

impl Inner {
    async fn resolve(&self, key: &Key) -> Looked {
        let question = upstream::Query {
            question: key.to_question(),
            do_bit: key.dnssec_ok(),
            cd_bit: key.checking_disabled(),
        };
        let began = Instant::now();
        let routed = self.router.exchange(&question).await;
        self.asking.record(began.elapsed());
        match routed {
            Ok(routed) => {
                let name = routed.answer.upstream;
                match self.read(key, &routed.answer.message) {
                    Ok(answer) => {
                        let answer = answer.with_authentic(routed.answer.secure == Some(true));
                        let answer = if routed.why.is_passing() {
                            Arc::new(answer)
                        } else {
                            self.cache.insert(key, answer, (self.clock)())
                        };
                        Looked {
                            answer,
                            age: Age::Fresh(0),
                            origin: Origin::Upstream,
                            upstream: Some(name),
                        }
                    }
                    Err(problem) => self.failed(key, extended::NOT_READY, &format!("{name}: {problem}")),
                }
            }
            Err(error) => self.unanswered(key, &error),
        }
    }

    fn read(&self, key: &Key, message: &[u8]) -> Result<Answer, dns_core::wire::ResponseError> {
        Answer::from_response(&Response::parse(message)?, key, &self.bounds)
    }

    fn unanswered(&self, key: &Key, error: &Error) -> Looked {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => {
                // nobody is to be asked for it: there is no such name here
                let answer = Answer::failure(key, code::NXDOMAIN, extended::NOT_READY, &text, 60);
                Looked {
                    answer: Arc::new(answer),
                    age: Age::Fresh(0),
                    origin: Origin::Special,
                    upstream: None,
                }
            }
            // a forged answer is not made good by an older one, whoever found it to be forged
            _ if error.is_final() => {
                let (lifetime, (ede, _)) = (self.bounds.failure, error.extended());
                let answer = Answer::failure(key, code::SERVFAIL, ede, &text, lifetime);
                Looked {
                    answer: Arc::new(answer),
                    age: Age::Fresh(0),
                    origin: Origin::Failed,
                    upstream: None,
                }
            }
            _ => self.failed(key, error.extended().0, &text),
        }
    }

    /// Its asker has too many questions under way.
    fn turned_away(&self, key: &Key) -> Looked {
        if let Some(answer) = self.cache.stale(key, (self.clock)()) {
            return Looked::stale(answer);
        }
        let text = "too many questions of this program wait";
        Looked {
            answer: Arc::new(Answer::failure(key, code::SERVFAIL, extended::OTHER, text, 0)),
            age: Age::Fresh(0),
            origin: Origin::Failed,
            upstream: None,
        }
    }

    /// The last answer known, else a failure.
    fn failed(&self, key: &Key, ede: u16, text: &str) -> Looked {
        let failure = Answer::failure(key, code::SERVFAIL, ede, text, self.bounds.failure);
        let (answer, age) = self.cache.failed(key, failure, (self.clock)());
        let origin = if age == Age::Stale {
            Origin::Stale
        } else {
            Origin::Failed
        };
        Looked {
            answer,
            age,
            origin,
            upstream: None,
        }
    }
}
