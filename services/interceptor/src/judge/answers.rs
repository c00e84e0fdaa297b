//! Who: the process-resolver is asked, and answers, or does not.

use std::{sync::Arc, time::Duration};

use super::{Answer, Attribution, Effects, Judge, Miss, Now};

impl Judge {
    /// As many as may be out at once.
    pub(super) fn ask(&mut self, effects: &mut Effects) {
        let hash = self.policy.needs_hash();
        while let Some(question) = self.pending.next_question(self.limits.questions, hash) {
            effects.questions.push(question);
        }
    }

    /// The resolver answered.
    pub fn on_answer(&mut self, now: Now, answer: Answer, effects: &mut Effects) {
        self.answered = Some(now.monotonic);
        self.withdraw_ended(&answer.ended, effects);
        let (request, timeout) = (answer.request_id, answer.miss == Some(Miss::Timeout));
        let who = self.processes.learn(answer);
        match self.pending.take(request) {
            // too much to look for, perhaps on purpose: nothing passes for that
            Some(taken) if timeout => self.give_up(&taken.waiting, effects),
            Some(taken) => self.attributed(now, taken, who, effects),
            None => {}
        }
        self.ask(effects);
    }

    /// The resolver searches for this one: its answer comes later, others may be asked for meanwhile.
    pub fn on_searching(&mut self, now: Now, request_id: u64, effects: &mut Effects) {
        self.answered = Some(now.monotonic);
        self.pending.takes_longer(request_id);
        self.ask(effects);
    }

    /// The resolver's stream began anew: what it said before means nothing, what waits is asked again, and has as long as what comes
    /// now.
    pub fn on_resolver_restart(&mut self, now: Now, effects: &mut Effects) {
        self.has_resolver = true;
        self.resolver_by = now.monotonic + self.limits.attribution_deadline;
        self.processes.clear();
        self.pending.forget_questions();
        self.ask(effects);
    }

    /// There is no stream to the resolver. Where there was one, it may be being restarted.
    pub fn on_resolver_lost(&mut self, now: Now) {
        self.answered = None;
        if std::mem::take(&mut self.has_resolver) {
            self.resolver_by = now.monotonic + self.limits.resolver_restart;
        }
    }

    /// Nobody takes a stream: nothing is to be expected of it.
    pub const fn on_resolver_gone(&mut self) {
        self.resolver_by = Duration::ZERO;
    }

    /// When [`Self::on_time`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadlines = [
            self.pending
                .next_deadline()
                .map(|deadline| deadline.max(self.resolver_by)),
            self.openings.next_deadline(),
            self.flows.next_deadline(),
            self.pause_ends,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Time passed.
    pub fn on_time(&mut self, now: Now, effects: &mut Effects) {
        self.end_pause(now, effects);
        // a resolver that answers others and not this one is overloaded, perhaps on purpose: nothing passes for that
        let patience = self.limits.attribution_deadline;
        let answers = self
            .answered
            .is_some_and(|last| now.monotonic.saturating_sub(last) < patience);
        let is_time = now.monotonic >= self.resolver_by;
        while let Some(taken) = is_time.then(|| self.pending.take_late(now.monotonic)).flatten() {
            if taken.who.is_some() {
                self.give_up_unnamed(&taken.waiting, effects);
                continue;
            }
            self.counts.late += u64::from(taken.was_out);
            if answers {
                self.give_up(&taken.waiting, effects);
                continue;
            }
            let who = Attribution {
                miss: Some(Miss::Timeout),
                uid: taken.asked.uid,
                ..Attribution::default()
            };
            self.attributed(now, taken, Arc::new(who), effects);
        }
        self.end_late_openings(now, effects);
        self.ask(effects);
        for (key, was_waiting_for_name) in self.flows.take_late(now.monotonic) {
            if was_waiting_for_name {
                self.settle_name(now, key, None, effects);
            }
        }
    }
}
