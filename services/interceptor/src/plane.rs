//! The data plane: one thread, four queues. Reads packets, lets the [`Judge`] decide, carries out what it says.
//!
//! Invariant: nothing here waits for anything but the kernel's descriptors, the resolver's answers and the time. Events and
//! mark changes leave through bounded channels; what does not fit is counted, never waited for.

use std::{
    cell::RefCell,
    os::fd::AsRawFd,
    rc::Rc,
    sync::{Arc, mpsc as blocking},
    time::Duration,
};

use daemon::{ready::Watchdog, status::Status};
use netlink::Builder;
use proto::gate17::v1::ToEntry;
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use verdict::policy::{CompiledPolicy, model::Clocks};

mod counters;
mod entry;

use counters::Counters;

use crate::{
    ahead::Ahead,
    conntrack::{Conntrack, Endings, Entry, Tuple},
    judge::{Answer, Arrival, Connection, Effects, Event, Judge, Now, Question, Waiting},
    marks::{Job, Listed, Purpose},
    nfqueue::Queue,
    resolver, tunnel,
};

/// Packets read from one queue before the others get their turn.
const BATCH: usize = 64;
/// Ends read at once: more of them than connections can begin meanwhile.
const ENDINGS: usize = 1024;
/// Longer than the copy range and all other attributes.
const BUFFER: usize = 16 << 10;

/// Ends of connections so close to each other are read together; the socket holds them meanwhile.
const TOGETHER: Duration = Duration::from_millis(5);
/// Between two looks for connections that ended unheard.
const RECONCILE: Duration = Duration::from_secs(60);

/// What the plane is made of.
#[derive(Debug)]
pub struct Parts {
    /// Decides.
    pub judge: Judge,
    /// Bound, rules or not.
    pub queues: Vec<Queue>,
    /// Who opened an established connection?
    pub conntrack: Conntrack,
    /// Ends of connections.
    pub endings: Endings,
    /// Takes marks away, on a thread of its own.
    pub marks: blocking::Sender<Job>,
    /// What the process before this one let pass, and lives on.
    pub restored: Vec<Connection>,
    /// Where events go.
    pub events: mpsc::Sender<Event>,
    /// Where they are written down before.
    pub ahead: Option<Ahead>,
    /// Policies to come.
    pub policies: tokio::sync::watch::Receiver<Arc<CompiledPolicy>>,
    /// Connections that conntrack lists with one of our marks.
    pub listed: mpsc::Receiver<Listed>,
    /// To the process-resolver.
    pub resolver: std::path::PathBuf,
    /// To the entry of Gate17.
    pub entry: std::path::PathBuf,
    /// Of the whole service.
    pub status: Status,
    /// Of the whole service.
    pub shutdown: CancellationToken,
}

struct Core {
    judge: Judge,
    effects: Effects,
    queues: Rc<[AsyncFd<Queue>]>,
    conntrack: Conntrack,
    builder: Builder,
    questions: Option<mpsc::UnboundedSender<Question>>,
    tunnel: Option<mpsc::UnboundedSender<ToEntry>>,
    status: Status,
    events: mpsc::Sender<Event>,
    ahead: Option<Ahead>,
    marks: blocking::Sender<Job>,
    started: Instant,
    /// When the timer rings next.
    armed: Option<Duration>,
    timer: Rc<Notify>,
    counters: Counters,
}

type Shared = Rc<RefCell<Core>>;

/// Runs until `shutdown`; must be polled inside a [`tokio::task::LocalSet`] on a current-thread runtime.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let Parts {
        judge,
        queues,
        conntrack,
        endings,
        marks,
        restored,
        events,
        ahead,
        policies,
        listed,
        resolver,
        entry: entry_socket,
        status,
        shutdown,
    } = parts;
    let queues: Vec<_> = queues.into_iter().map(watched).collect::<Result<_, _>>()?;
    let queues: Rc<[AsyncFd<Queue>]> = queues.into();
    let timer = Rc::new(Notify::new());
    let core = Rc::new(RefCell::new(Core {
        judge,
        effects: Effects::default(),
        queues: Rc::clone(&queues),
        conntrack,
        builder: Builder::new(),
        questions: None,
        tunnel: None,
        status: status.clone(),
        events,
        ahead,
        marks,
        started: Instant::now(),
        armed: None,
        timer: Rc::clone(&timer),
        counters: Counters::new(&status),
    }));
    core.borrow_mut().restore(restored);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..queues.len() {
        tasks.spawn_local(read_queue(Rc::clone(&core), Rc::clone(&queues), index));
    }
    tasks.spawn_local(read_endings(Rc::clone(&core), watched(endings)?, status.clone()));
    tasks.spawn_local(keep_time(Rc::clone(&core), timer));
    tasks.spawn_local(follow_policy(Rc::clone(&core), policies));
    tasks.spawn_local(take_lists(Rc::clone(&core), listed));
    tasks.spawn_local(reconcile(Rc::clone(&core)));
    tasks.spawn_local(entry::exchange(
        Rc::clone(&core),
        entry_socket,
        status.clone(),
        shutdown.clone(),
    ));
    tasks.spawn_local(resolver::ask(
        // made here, so that its connection lives on this thread
        daemon::grpc::channel(&resolver),
        status,
        shutdown.clone(),
        {
            let core = Rc::clone(&core);
            move || core.borrow_mut().resolver_lost()
        },
        {
            let core = Rc::clone(&core);
            move |questions| core.borrow_mut().resolver_began(questions)
        },
        {
            let core = Rc::clone(&core);
            move |request_id| core.borrow_mut().searching(request_id)
        },
        move |answer| core.borrow_mut().answered(answer),
    ));
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => ended?,
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn watched<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: queues and event sockets own their descriptor, always give the same one, and close it when they are dropped.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

async fn read_queue(core: Shared, queues: Rc<[AsyncFd<Queue>]>, index: usize) -> anyhow::Result<()> {
    let Some(queue) = queues.get(index) else {
        return Ok(());
    };
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut readable = queue.readable().await?;
        let mut drained = false;
        for _ in 0..BATCH {
            if !core.borrow_mut().receive(index, queue.get_ref(), &mut buffer)? {
                readable.clear_ready();
                drained = true;
                break;
            }
        }
        drop(readable);
        if !drained {
            tokio::task::yield_now().await;
        }
    }
}

async fn read_endings(core: Shared, endings: AsyncFd<Endings>, status: Status) -> anyhow::Result<()> {
    let lost = status.counter("endings_lost");
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut readable = endings.readable().await?;
        for _ in 0..ENDINGS {
            match endings
                .get_ref()
                .read(&mut buffer, |entry| core.borrow_mut().ended(&entry))
            {
                Ok(true) => {}
                Ok(false) => {
                    readable.clear_ready();
                    break;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost.add(1),
                Err(error) => return Err(error.into()),
            }
        }
        drop(readable);
        // ends can wait, beginnings cannot: they are read in bunches
        tokio::time::sleep(TOGETHER).await;
    }
}

/// Rings when the judge has something to do, and often enough that the service manager sees this thread turn.
async fn keep_time(core: Shared, timer: Rc<Notify>) -> anyhow::Result<()> {
    let mut watchdog = Watchdog::from_environment();
    loop {
        let next = core.borrow_mut().arm();
        let turn = watchdog.pause().map(|pause| Instant::now() + pause);
        tokio::select! {
            () = until(next) => core.borrow_mut().time_passed(),
            () = timer.notified() => {}
            () = until(turn) => {}
        }
        if watchdog.is_due() && core.borrow_mut().is_well() {
            watchdog.feed();
        }
    }
}

/// For ever where there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn follow_policy(
    core: Shared,
    mut policies: tokio::sync::watch::Receiver<Arc<CompiledPolicy>>,
) -> anyhow::Result<()> {
    while policies.changed().await.is_ok() {
        let policy = Arc::clone(&policies.borrow_and_update());
        core.borrow_mut().policy_changed(policy);
    }
    std::future::pending().await
}

/// What conntrack lists, whatever it was asked for. Connections that were decided before our time, or were too many to
/// remember: no one can say what a new policy means for them but the packet path, so they are asked again.
async fn take_lists(core: Shared, mut listed: mpsc::Receiver<Listed>) -> anyhow::Result<()> {
    while let Some((purpose, entries)) = listed.recv().await {
        let mut core = core.borrow_mut();
        match purpose {
            Purpose::Reconcile => core.reconcile(&entries),
            Purpose::AskAgain => {
                for entry in entries.iter().filter(|entry| !core.judge.tracks(entry)) {
                    core.send_job(Job::Reset(entry.original));
                }
            }
        }
    }
    std::future::pending().await
}

/// Ends can go unheard: a packet that another firewall drops behind us leaves no connection, and a burst of ends may not fit
/// into the socket.
async fn reconcile(core: Shared) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(RECONCILE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let core = core.borrow();
        if core.judge.sizes().0 > 0 {
            core.send_job(Job::List(Purpose::Reconcile));
        }
    }
}

impl Core {
    fn now(&self) -> Now {
        let Clocks { wall, boot } = daemon::clock::now();
        Now {
            monotonic: self.started.elapsed(),
            wall,
            boot,
        }
    }

    /// Connections that passed before our time and are not among these are asked again: their decision was not written down.
    fn restore(&mut self, connections: Vec<Connection>) {
        let now = self.now();
        self.judge.restore(now, connections, &mut self.effects);
        self.carry_out();
        self.send_job(Job::List(Purpose::AskAgain));
    }

    /// One datagram of a queue; false where none waits.
    fn receive(&mut self, index: usize, queue: &Queue, buffer: &mut [u8]) -> Result<bool, netlink::Error> {
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
    fn is_well(&mut self) -> bool {
        self.conntrack.answers()
    }

    fn answered(&mut self, answer: Answer) {
        let (now, at, request) = (self.now(), std::time::Instant::now(), answer.request_id);
        self.judge.on_answer(now, answer, &mut self.effects);
        self.carry_out();
        self.counters.decided(request, at);
    }

    fn searching(&mut self, request_id: u64) {
        let now = self.now();
        self.judge.on_searching(now, request_id, &mut self.effects);
        self.carry_out();
    }

    fn resolver_lost(&mut self) {
        self.questions = None;
        self.judge.on_resolver_lost();
    }

    fn resolver_began(&mut self, questions: mpsc::UnboundedSender<Question>) {
        self.questions = Some(questions);
        self.judge.on_resolver_restart(&mut self.effects);
        self.carry_out();
    }

    fn ended(&mut self, entry: &Entry) {
        let now = self.now();
        self.judge.on_end(now, entry, &mut self.effects);
        self.carry_out();
    }

    fn policy_changed(&mut self, policy: Arc<CompiledPolicy>) {
        let now = self.now();
        tunnel::is_forgotten(&self.status);
        self.judge.on_policy(now, policy, &mut self.effects);
        self.carry_out();
        self.send_job(Job::List(Purpose::AskAgain));
    }

    fn reconcile(&mut self, entries: &[Entry]) {
        let now = self.now();
        self.judge.reconcile(now, entries, &mut self.effects);
        self.carry_out();
    }

    fn time_passed(&mut self) {
        let now = self.now();
        self.judge.on_time(now, &mut self.effects);
        self.carry_out();
    }

    /// What a killed process must not forget first, in a file of this thread's own; then verdicts: somebody waits for them.
    fn carry_out(&mut self) {
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

    fn send_job(&self, job: Job) {
        if self.marks.send(job).is_err() {
            tracing::error!("the thread that changes connection marks has ended");
        }
    }

    fn arm(&mut self) -> Option<Instant> {
        self.armed = self.judge.next_deadline();
        self.armed.map(|at| self.started + at)
    }
}
