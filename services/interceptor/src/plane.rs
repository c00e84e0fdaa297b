//! The data plane: one thread, four queues. Reads packets, lets the [`Judge`] decide, carries out what it says.
//!
//! Invariant: nothing here waits for anything but the kernel's descriptors, the resolver's answers and the time. Events and
//! mark changes leave through bounded channels; what does not fit is counted, never waited for.
//!
//! Read `sources` (what comes in), then `core` (what is done with it); the judge is [`crate::judge`].

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{Arc, mpsc as blocking},
};

use daemon::status::Status;
use netlink::Builder;
use tokio::{
    io::unix::AsyncFd,
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use verdict::policy::CompiledPolicy;

mod core;
mod counters;
mod entry;
mod sources;
mod timing;

use counters::Counters;
use sources::watched;

use self::core::Core;
use crate::{
    ahead::Ahead,
    conntrack::{Conntrack, Endings},
    judge::{Connection, Effects, Event, Judge},
    marks::{Job, Listed},
    nfqueue::Queue,
    resolver,
};

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
        tasks.spawn_local(sources::read_queue(Rc::clone(&core), Rc::clone(&queues), index));
    }
    tasks.spawn_local(sources::read_endings(
        Rc::clone(&core),
        watched(endings)?,
        status.clone(),
    ));
    tasks.spawn_local(timing::keep_time(Rc::clone(&core), timer));
    tasks.spawn_local(sources::follow_policy(Rc::clone(&core), policies));
    tasks.spawn_local(sources::take_lists(Rc::clone(&core), listed));
    tasks.spawn_local(sources::reconcile(Rc::clone(&core)));
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
            move || core.borrow_mut().resolver_gone()
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
