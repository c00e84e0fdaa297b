//! Names of programs that are tunnelled: asked of the exit's resolver through their own circuit, never from this host.
//!
//! What is answered is known to that program alone: an answer from one exit is no answer for another, and who asked through
//! the tunnel is not to be told apart by what others find in the cache.

use std::{sync::Arc, time::Duration};

use dns_core::wire::{Age, Answer, Bounds, Key, Query, Response, code, extended};
use moka::sync::Cache;
use proto::{
    convert,
    gate17::v1::{App, ResolveReply, ResolveRequest, gate17_entry_client::Gate17EntryClient},
};
use tonic::transport::Channel;
use verdict::policy::TunnelOptions;

use crate::{
    clients::Asker,
    log::Origin,
    lookup::{Clock, Looked},
    upstream::message::{self, Make, Match},
};

/// A circuit may have to be built first.
const PATIENCE: Duration = Duration::from_secs(15);
/// Answers that are kept.
const MOST: u64 = 8192;
/// As the upstream is called in what is told.
const UPSTREAM: &str = "gate17";

/// Whose an answer is, and to what: program, profile, question.
type Place = (App, Arc<str>, Key);

/// Asks through the tunnel; clones are the same.
#[derive(Clone, Debug)]
pub struct Tunnel {
    entry: Gate17EntryClient<Channel>,
    known: Cache<Place, (Arc<Answer>, Duration)>,
    bounds: Bounds,
    clock: Clock,
}

impl Tunnel {
    /// `entry`: to the Gate17 entry.
    pub fn new(entry: Channel, bounds: Bounds, clock: Clock) -> Self {
        Self {
            entry: Gate17EntryClient::new(entry),
            known: Cache::builder().max_capacity(MOST).build(),
            bounds,
            clock,
        }
    }

    /// Answers in any case: with a failure that says why, where the tunnel does not.
    /// `options`: the profile's.
    pub async fn answer(
        &self,
        query: &Query,
        asker: &Asker,
        profile: &Arc<str>,
        options: &TunnelOptions,
    ) -> Looked {
        let key = query.key();
        let app = convert::app(asker.process.as_deref(), asker.uid);
        let place: Place = (app.clone(), Arc::clone(profile), key.clone());
        if let Some((answer, since)) = self.known.get(&place) {
            let age = (self.clock)().saturating_sub(since).as_secs();
            if age < u64::from(answer.lifetime()) {
                return Looked {
                    answer,
                    age: Age::Fresh(u32::try_from(age).unwrap_or(u32::MAX)),
                    origin: Origin::Cache,
                    upstream: None,
                };
            }
            self.known.invalidate(&place);
        }
        match self.ask(key, app, profile, options).await {
            Ok(answer) => {
                let answer = Arc::new(answer);
                self.known.insert(place, (Arc::clone(&answer), (self.clock)()));
                Looked {
                    answer,
                    age: Age::Fresh(0),
                    origin: Origin::Upstream,
                    upstream: Some(UPSTREAM.into()),
                }
            }
            Err(problem) => self.failed(key, &format!("through the tunnel: {problem}")),
        }
    }

    /// The answer to whoever may be a program that is tunnelled: not to be asked for in the clear.
    pub fn unknown(&self, query: &Query) -> Looked {
        self.failed(
            query.key(),
            "who asks is not known at present, and some programs are tunnelled",
        )
    }

    fn failed(&self, key: &Key, text: &str) -> Looked {
        let failure = Answer::failure(
            key,
            code::SERVFAIL,
            extended::NOT_READY,
            text,
            self.bounds.failure,
        );
        Looked {
            answer: Arc::new(failure),
            age: Age::Fresh(0),
            origin: Origin::Failed,
            upstream: None,
        }
    }

    async fn ask(
        &self,
        key: &Key,
        app: App,
        profile: &str,
        options: &TunnelOptions,
    ) -> Result<Answer, String> {
        let make = Make {
            // RFC 8484 §4.1
            id: 0,
            dnssec_ok: key.dnssec_ok(),
            checking_disabled: key.checking_disabled(),
            edns: true,
            cookie: None,
            pad: true,
            case: &[],
        };
        let query = message::query(&key.to_question(), &make);
        let request = ResolveRequest {
            app: Some(app),
            profile: profile.to_owned(),
            query: query.clone(),
            options: Some(options.into()),
        };
        let mut entry = self.entry.clone();
        let reply = tokio::time::timeout(PATIENCE, entry.resolve(request))
            .await
            .map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?;
        let ResolveReply { answer, text, .. } = reply
            .map_err(|refused| format!("the entry: {}", refused.message()))?
            .into_inner();
        if answer.is_empty() {
            return Err(text);
        }
        if message::matches(&query, &answer) != Match::Answer {
            return Err("the exit's resolver answered something else".to_owned());
        }
        let response = Response::parse(&answer).map_err(|problem| problem.to_string())?;
        Answer::from_response(&response, key, &self.bounds).map_err(|problem| problem.to_string())
    }
}
