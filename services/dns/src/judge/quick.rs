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
use verdict::policy::CompiledPolicy;

use super::{
    Arrived, Judge, Plan, held, is_tunnelled,
    written::{noted, refusal},
};
use crate::{
    clients::{Asker, Look, Seen},
    filter::{self, Judged},
    log::{self, Matter, Origin},
    lookup::Looked,
    memo,
};

/// Queries that were received at once.
#[derive(Debug)]
pub struct Turn<L> {
    /// When they came.
    at: Option<Instant>,
    /// What they are judged by: what was in force when the first of them was.
    by: Option<(Arc<CompiledPolicy>, Arc<L>)>,
    /// From whom.
    seen: Seen,
    /// What was answered; without its times.
    answered: Vec<log::Query>,
}

/// What is known of a query that has to wait.
#[derive(Debug)]
pub struct Waits<L> {
    /// From whom it is.
    pub look: Look,
    /// Where its name may be asked for in the usual way.
    pub may_be_asked: Option<Planned<L>>,
}

/// A name that may be asked for.
#[derive(Debug)]
pub struct Planned<L> {
    pub(super) name: Arc<Name>,
    judged: Judged,
    is_local: bool,
    /// By what that was judged.
    by: (Arc<CompiledPolicy>, Arc<L>),
    at: Instant,
}

impl<L> Planned<L> {
    /// What was judged, and whether the name is local, where that is not to be asked again: what it was judged by is in force, and it
    /// was a moment ago.
    pub(super) fn still(self, by: (&Arc<CompiledPolicy>, &Arc<L>)) -> Option<(Judged, bool)> {
        let is_same = Arc::ptr_eq(by.0, &self.by.0) && Arc::ptr_eq(by.1, &self.by.1);
        (is_same && self.at.elapsed() < memo::HOLDS_SHORT).then_some((self.judged, self.is_local))
    }
}

impl<L> Default for Turn<L> {
    fn default() -> Self {
        Self {
            at: None,
            by: None,
            seen: Seen::default(),
            answered: Vec::new(),
        }
    }
}

impl<L> Turn<L> {
    /// When they came.
    pub fn at(&mut self) -> Instant {
        *self.at.get_or_insert_with(Instant::now)
    }
}

impl<L: filter::Lists + Send + Sync + 'static> Judge<L> {
    /// Writes the answer, where nothing has to be waited for; else says what is known, and [`Self::slow`] has to. What is
    /// answered alike whoever asks does not come here: the server answers it.
    pub fn quick(&self, arrived: &Arrived<'_>, turn: &mut Turn<L>, out: &mut Vec<u8>) -> Option<Waits<L>> {
        let look = self.clients.look_once(arrived.client, &mut turn.seen);
        let (policy, lists) = turn
            .by
            .get_or_insert_with(|| (self.policy.load_full(), self.lists.load_full()));
        let answered = match &look.asker {
            Some(asker) => self.known(arrived, asker, (policy, lists), out),
            None => Err(None),
        };
        match answered {
            Ok(answered) => {
                turn.answered.push(answered);
                None
            }
            Err(may_be_asked) => Some(Waits {
                look: look.clone(),
                may_be_asked,
            }),
        }
    }

    /// Answers of one turn are sent: they are written down, and what holds for its queries alone is forgotten.
    pub fn sent(&self, turn: &mut Turn<L>) {
        turn.seen.forget();
        turn.by = None;
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
        by: (&Arc<CompiledPolicy>, &Arc<L>),
        out: &mut Vec<u8>,
    ) -> Result<log::Query, Option<Planned<L>>> {
        let given = self.at_hand(arrived.query);
        if let Some(given) = &given
            && let Some(cleared) = memo::look(by, asker, &given.answer, arrived.at)
        {
            given.answer.write(arrived.query, given.age, arrived.reply, out);
            return Ok(noted(arrived, cleared, (given.origin, None), out));
        }
        if let Some(refused) = memo::look_for_refusal(by, asker, arrived.query.key(), arrived.at) {
            return Ok(self.refuse(arrived, refused, None, out));
        }
        let who = self.who(asker, by.0);
        let name = Arc::new(arrived.query.to_question().name);
        let (judged, is_local) = match self.plan(&who, &name, arrived.query) {
            Plan::Resolve { judged, is_local } => (judged, is_local),
            Plan::Special(answered) => return Ok(self.special_answer(arrived, asker, name, &answered, out)),
            Plan::Refuse(judged) => {
                let refused = refusal(asker, name, judged);
                memo::remember_refusal(by, asker, arrived.query.key(), refused.clone(), arrived.at);
                return Ok(self.refuse(arrived, refused, None, out));
            }
        };
        if is_tunnelled(&judged, is_local) {
            return Err(None);
        }
        let planned = |name, judged| Planned {
            name,
            judged,
            is_local,
            by: (Arc::clone(by.0), Arc::clone(by.1)),
            at: arrived.at,
        };
        let Some(given) = given else {
            return Err(Some(planned(name, judged)));
        };
        let held = held::of(&given.answer, arrived.query);
        if let Some(refused) = self.refused(&who, &name, (&judged, is_local), &held) {
            return Ok(self.refuse(arrived, refusal(asker, name, refused), None, out));
        }
        if let Some(news) = self.news(asker, &name, &held, &given)
            && self.tell_aside(news).is_err()
        {
            return Err(Some(planned(name, judged)));
        }
        given.answer.write(arrived.query, given.age, arrived.reply, out);
        let matter = Arc::new(Matter {
            asker: Arc::clone(asker),
            name,
            judged,
            addresses: held.addresses,
        });
        memo::remember(by, asker, &given.answer, Arc::clone(&matter), arrived.at);
        Ok(noted(arrived, matter, (given.origin, None), out))
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
