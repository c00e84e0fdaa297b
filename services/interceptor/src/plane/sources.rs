//! What wakes the packet path: packets, ends of connections, policies and lists. Each is read here and handed to the
//! `Core`, which does all that is to be done before the next is read.

use std::{os::fd::AsRawFd, rc::Rc, sync::Arc, time::Duration};

use daemon::status::Status;
use tokio::{io::unix::AsyncFd, sync::mpsc};
use verdict::policy::CompiledPolicy;

use super::Shared;
use crate::{
    conntrack::Endings,
    marks::{Job, Listed, Purpose},
    nfqueue::Queue,
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

#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
pub(super) fn watched<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    // SAFETY: queues and event sockets own their descriptor, always give the same one, and close it when they are dropped.
    Ok(unsafe { AsyncFd::register(owner) }?)
}

pub(super) async fn read_queue(
    core: Shared,
    queues: Rc<[AsyncFd<Queue>]>,
    index: usize,
) -> anyhow::Result<()> {
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

pub(super) async fn read_endings(
    core: Shared,
    endings: AsyncFd<Endings>,
    status: Status,
) -> anyhow::Result<()> {
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

pub(super) async fn follow_policy(
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
pub(super) async fn take_lists(core: Shared, mut listed: mpsc::Receiver<Listed>) -> anyhow::Result<()> {
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
pub(super) async fn reconcile(core: Shared) -> anyhow::Result<()> {
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
