//! What outlives this process: queue sockets and the conntrack socket, kept by the service manager (`FDSTORE=1`,
//! `sd_notify(3)`). Packets wait in the kernel meanwhile; the next process, also after a crash, takes them up.
//!
//! Invariant: what was kept is believed only after the kernel confirmed it. Whatever else lies there is closed and said once.

use std::os::fd::AsFd;

use daemon::ready;

use crate::{
    conntrack::Endings,
    nfqueue::{Error, Queue, QueueNumber, QueueOptions},
};

const ENDINGS: &str = "conntrack";

fn name(number: QueueNumber) -> String {
    format!("queue-{number}")
}

/// The queue, taken up from the process before this one or bound anew; kept for the one after.
pub fn queue(number: QueueNumber, options: &QueueOptions) -> Result<Queue, Error> {
    let name = name(number);
    for fd in ready::take_passed(&name) {
        match Queue::adopt(number, fd, options) {
            Ok(queue) => {
                tracing::info!(queue = number.0, "queue taken up from the process before");
                return Ok(queue);
            }
            Err(error) => refused(&name, &error),
        }
    }
    let queue = Queue::bind(number, options)?;
    keep(&name, &queue);
    Ok(queue)
}

/// The same for ends of connections.
pub fn endings(receive_buffer: usize) -> Result<Endings, netlink::Error> {
    for fd in ready::take_passed(ENDINGS) {
        match Endings::adopt(fd, receive_buffer) {
            Ok(endings) => return Ok(endings),
            Err(error) => refused(ENDINGS, &error),
        }
    }
    let endings = Endings::open(receive_buffer)?;
    keep(ENDINGS, &endings);
    Ok(endings)
}

/// Keeps `fd` under `name`. A service manager that cannot is no reason not to work.
pub fn keep(name: &str, fd: impl AsFd) {
    if let Err(error) = ready::store(name, fd) {
        tracing::warn!(name, %error, "the service manager does not keep a descriptor: a restart will lose what waits");
    }
}

/// Says what was wrong with something kept, and has it forgotten.
pub fn refused(name: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(
        name,
        error,
        "what the service manager kept cannot be used; made anew"
    );
    ready::forget(name);
}

/// Whatever the store holds beside: a stranger, or a leftover of another version. Call when all else was taken.
pub fn close_strangers() {
    for (name, fd) in ready::take_rest() {
        tracing::warn!(
            name,
            "the service manager kept a descriptor that nobody knows; closed"
        );
        drop(fd);
        ready::forget(&name);
    }
}
