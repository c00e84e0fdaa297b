//! Answers that nobody has to be waited for: what the cache has, or a rule refuses, for a program that is known.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use dns_core::{
    Name,
    cache::Found,
    wire::{Age, Query},
};

use super::{Arrived, Judge, Plan, held, is_tunnelled, noted, refusal};
use crate::{
    clients::{Asker, Look, Seen},
    filter,
    log::{self, Origin},
    lookup::Looked,
    memo::{self, Cleared},
};

/// Queries that were received at once.
#[derive(Debug, Default)]
pub struct Turn {
    /// When they came.
    at: Option<Instant>,
    /// From whom.
    seen: Seen,
    /// What was answered; without its times.
    answered: Vec<log::Query>,
}

/// What is known of a query that has to wait.
#[derive(Debug)]
pub struct Waits {
    /// From whom it is.
    pub look: Look,
    /// Its name, where that may be asked for in the usual way.
    pub may_be_asked: Option<Arc<Name>>,
}

impl Turn {
    /// When they came.
    pub fn at(&mut self) -> Instant {
        *self.at.get_or_insert_with(Instant::now)
    }
}

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    /// Writes the answer, where nothing has to be waited for; else says what is known, and [`Self::slow`] has to.
    pub fn quick(&self, arrived: &Arrived<'_>, turn: &mut Turn, out: &mut Vec<u8>) -> Option<Waits> {
        if self.answered_to_anybody(arrived, out) {
            return None;
        }
        let look = self.clients.look_once(arrived.client, &mut turn.seen);
        let answered = match &look.asker {
            Some(asker) => self.known(arrived, asker, out),
            None => Err(None),
        };
        match answered {
            Ok(answered) => {
                turn.answered.push(answered);
                None
            }
            Err(may_be_asked) => Some(Waits { look, may_be_asked }),
        }
    }

    /// Answers of one turn are sent: they are written down, and what holds for its queries alone is forgotten.
    pub fn sent(&self, turn: &mut Turn) {
        turn.seen.forget();
        let Some(at) = turn.at.take() else { return };
        if !turn.answered.is_empty() {
            let (time, took) = (SystemTime::now(), at.elapsed());
            let answered = turn.answered.drain(..);
            self.log
                .write(answered.map(|query| log::Query { time, took, ..query }));
        }
    }

    /// Writes the answer, where everything about it is known; else the name, where it may be asked for in the usual way.
    fn known(
        &self,
        arrived: &Arrived<'_>,
        asker: &Arc<Asker>,
        out: &mut Vec<u8>,
    ) -> Result<log::Query, Option<Arc<Name>>> {
        let given = self.at_hand(arrived.query);
        let (policy, lists) = (self.policy.load(), self.lists.load());
        let by = (&*policy, &*lists);
        if let Some(given) = &given
            && let Some(cleared) = memo::look(by, asker, &given.answer, arrived.at)
        {
            given.answer.write(arrived.query, given.age, arrived.reply, out);
            return Ok(noted(arrived, asker, cleared, (given.origin, None), out));
        }
        if let Some(refused) = memo::look_for_refusal(by, asker, arrived.query.key(), arrived.at) {
            return Ok(self.refuse(arrived, asker, refused, None, out));
        }
        let who = self.who(asker, &policy);
        let name = Arc::new(arrived.query.to_question().name);
        let (judged, is_local) = match self.plan(&who, &name, arrived.query) {
            Plan::Resolve { judged, is_local } => (judged, is_local),
            Plan::Special(answered) => return Ok(self.special_answer(arrived, asker, name, &answered, out)),
            Plan::Refuse(judged) => {
                let refused = refusal(name, judged);
                memo::remember_refusal(by, asker, arrived.query.key(), refused.clone(), arrived.at);
                return Ok(self.refuse(arrived, asker, refused, None, out));
            }
        };
        if is_tunnelled(&judged, is_local) {
            return Err(None);
        }
        let Some(given) = given else {
            return Err(Some(name));
        };
        let held = held::of(&given.answer, arrived.query);
        if let Some(refused) = self.refused(&who, &name, (&judged, is_local), &held) {
            return Ok(self.refuse(arrived, asker, refusal(name, refused), None, out));
        }
        if let Some(news) = self.news(asker, &name, &held, &given) {
            self.tell_aside(news).map_err(|_| Some(Arc::clone(&name)))?;
        }
        given.answer.write(arrived.query, given.age, arrived.reply, out);
        let cleared = Cleared {
            name,
            judged: Arc::new(judged),
            addresses: held.addresses.into(),
        };
        memo::remember(by, asker, &given.answer, cleared.clone(), arrived.at);
        Ok(noted(arrived, asker, cleared, (given.origin, None), out))
    }

    /// What the cache has. Nothing, where it is to be asked for anew.
    fn at_hand(&self, query: &Query) -> Option<Looked> {
        let (answer, age, origin) = match self.cache.get(query.key(), (self.clock)()) {
            Found::Fresh { refresh: true, .. } | Found::Miss => return None,
            Found::Fresh { answer, age, .. } => (answer, Age::Fresh(age), Origin::Cache),
            Found::Stale(answer) => (answer, Age::Stale, Origin::Stale),
        };
        Some(Looked {
            answer,
            age,
            origin,
            upstream: None,
        })
    }
}
