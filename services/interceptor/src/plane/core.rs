//! What is done with what came in: it goes to the judge, and what the judge says is carried out before anything else is read.

use std::{rc::Rc, sync::Arc, sync::mpsc as blocking, time::Duration};

use daemon::status::Status;
use netlink::Builder;
use proto::gate17::v1::ToEntry;
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, mpsc},
    time::Instant,
};
use verdict::policy::{CompiledPolicy, model::Clocks};

use super::counters::Counters;
use crate::{
    ahead::Ahead,
    conntrack::{Conntrack, Entry, Tuple},
    judge::{Answer, Arrival, Connection, Effects, Event, Judge, Now, Question, Waiting},
    marks::{Job, Purpose},
    nfqueue::Queue,
    tunnel,
};

/// The packet path's state: the judge, and all that carries out what it says.
pub(super) struct Core {
    pub(super) judge: Judge,
    pub(super) effects: Effects,
    pub(super) queues: Rc<[AsyncFd<Queue>]>,
    pub(super) conntrack: Conntrack,
    pub(super) builder: Builder,
    pub(super) questions: Option<mpsc::UnboundedSender<Question>>,
    pub(super) tunnel: Option<mpsc::UnboundedSender<ToEntry>>,
    pub(super) status: Status,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) ahead: Option<Ahead>,
    pub(super) marks: blocking::Sender<Job>,
    pub(super) started: Instant,
    /// When the timer rings next.
    pub(super) armed: Option<Duration>,
    pub(super) timer: Rc<Notify>,
    pub(super) counters: Counters,
}

impl Core {
    pub(super) fn now(&self) -> Now {
        let Clocks { wall, boot } = daemon::clock::now();
        Now {
            monotonic: self.started.elapsed(),
            wall,
            boot,
        }
    }

    /// Connections that passed before our time and are not among these are asked again: their decision was not written down.
    pub(super) fn restore(&mut self, connections: Vec<Connection>) {
        let now = self.now();
        self.judge.restore(now, connections, &mut self.effects);
        self.carry_out();
        self.send_job(Job::List(Purpose::AskAgain));
    }

    /// One datagram of a queue; false where none waits.
    pub(super) fn receive(
        &mut self,
        index: usize,
        queue: &Queue,
        buffer: &mut [u8],
    ) -> Result<bool, netlink::Error> {
        let now = self.now();
        let hook = queue.number().hook();
        let read = queue.read(buffer, |queued| {
            let waiting = Waiting {
                queue: index,
                id: queued.id,
                mark: queued.mark,
                hook,
            };
            let arrival = Arrival {
                waiting,
                hook,
                uid: queued.uid,
                bytes: queued.bytes,
            };
            let conntrack = &mut self.conntrack;
            self.judge
                .on_packet(now, &arrival, |flow| conntrack.origin(flow), &mut self.effects);
        })?;
        self.carry_out();
        Ok(read)
    }

    /// The judge can be had, and the kernel answers on the sockets of the packet path.
    pub(super) fn is_well(&mut self) -> bool {
        self.conntrack.answers()
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        let (now, at, request) = (self.now(), std::time::Instant::now(), answer.request_id);
        self.judge.on_answer(now, answer, &mut self.effects);
        self.carry_out();
        self.counters.decided(request, at);
    }

    pub(super) fn searching(&mut self, request_id: u64) {
        let now = self.now();
        self.judge.on_searching(now, request_id, &mut self.effects);
        self.carry_out();
    }

    pub(super) fn resolver_lost(&mut self) {
        self.questions = None;
        let now = self.now();
        self.judge.on_resolver_lost(now);
    }

    pub(super) fn resolver_gone(&mut self) {
        self.judge.on_resolver_gone();
        self.timer.notify_one();
    }

    pub(super) fn resolver_began(&mut self, questions: mpsc::UnboundedSender<Question>) {
        self.questions = Some(questions);
        let now = self.now();
        self.judge.on_resolver_restart(now, &mut self.effects);
        self.carry_out();
    }

    pub(super) fn ended(&mut self, entry: &Entry) {
        let now = self.now();
        self.judge.on_end(now, entry, &mut self.effects);
        self.carry_out();
    }

    pub(super) fn policy_changed(&mut self, policy: Arc<CompiledPolicy>) {
        let now = self.now();
        tunnel::is_forgotten(&self.status);
        self.judge.on_policy(now, policy, &mut self.effects);
        self.carry_out();
        self.send_job(Job::List(Purpose::AskAgain));
    }

    pub(super) fn reconcile(&mut self, entries: &[Entry]) {
        let now = self.now();
        self.judge.reconcile(now, entries, &mut self.effects);
        self.carry_out();
    }

    pub(super) fn time_passed(&mut self) {
        let now = self.now();
        self.judge.on_time(now, &mut self.effects);
        self.carry_out();
    }

    /// What a killed process must not forget first, in a file of this thread's own; then verdicts: somebody waits for them.
    pub(super) fn carry_out(&mut self) {
        self.write_ahead();
        for verdict in self.effects.verdicts.drain(..) {
            let Some(queue) = self.queues.get(verdict.packet.queue) else {
                continue;
            };
            // ENOENT: the kernel dropped the packet meanwhile (its device went away)
            if queue
                .get_ref()
                .accept(&mut self.builder, verdict.packet.id, verdict.mark)
                .is_err()
            {
                self.counters.verdict_errors.add(1);
            }
        }
        for question in self.effects.questions.drain(..) {
            // without a stream the question waits in the judge, and is asked when there is one
            if let Some(questions) = &self.questions {
                self.counters.asked(question.request_id);
                let _ = questions.send(question);
            }
        }
        for wanted in std::mem::take(&mut self.effects.tunnel) {
            self.tell_entry(tunnel::to_entry(wanted));
        }
        for flow in std::mem::take(&mut self.effects.anew) {
            self.send_job(Job::Forget(Tuple::of(&flow)));
        }
        let resets = std::mem::take(&mut self.effects.resets);
        for flow in &resets {
            self.send_job(Job::Reset(Tuple::of(flow)));
        }
        for event in self.effects.events.drain(..) {
            self.counters.told(&event);
            // there is room: this thread alone sends, and has looked
            if self.events.try_send(event).is_err() {
                self.counters.events_dropped.add(1);
            }
        }
        self.counters.show(&self.judge, &self.status);
        if self
            .judge
            .next_deadline()
            .is_some_and(|next| self.armed.is_none_or(|armed| next < armed))
        {
            self.timer.notify_one();
        }
    }

    /// Events for which there is no room are dropped here, unnumbered: what is numbered is told.
    fn write_ahead(&mut self) {
        let events = &mut self.effects.events;
        let lost = events.len().saturating_sub(self.events.capacity());
        if lost > 0 {
            for event in events.drain(events.len() - lost..) {
                self.counters.told(&event);
                self.counters.events_dropped.add(1);
            }
        }
        let Some(ahead) = &mut self.ahead else { return };
        if ahead.write(events).is_err() {
            self.counters.events_unwritten.add(1);
        }
    }

    pub(super) fn send_job(&self, job: Job) {
        if self.marks.send(job).is_err() {
            tracing::error!("the thread that changes connection marks has ended");
        }
    }

    pub(super) fn arm(&mut self) -> Option<Instant> {
        self.armed = self.judge.next_deadline();
        self.armed.map(|at| self.started + at)
    }
}
