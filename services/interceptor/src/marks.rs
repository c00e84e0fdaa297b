//! Takes the marks of live connections away, so that their next packet is queued and asked again. On a thread of its own:
//! a change of policy may touch thousands of connections, and no packet waits for that.

use std::{sync::mpsc, thread};

use daemon::status::Status;
use tokio::sync::mpsc as tokio_mpsc;
use verdict::{Mark, mark::MarkScheme};

use crate::conntrack::{Conntrack, Entry, Tuple};

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Take this connection's mark away.
    Reset(Tuple),
    /// Forget the connection.
    Forget(Tuple),
    /// List the connections that have one of our marks.
    List(Purpose),
}

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The policy changed: those that nobody remembers are to be asked again.
    AskAgain,
    /// Those that are remembered and not in the list have ended unheard.
    Reconcile,
}

/// A list, and what it is for.
pub type Listed = (Purpose, Vec<Entry>);

/// Starts the thread; it ends when all senders are gone.
pub fn start(
    mut conntrack: Conntrack,
    scheme: MarkScheme,
    listed: tokio_mpsc::Sender<Listed>,
    status: Status,
) -> std::io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel();
    thread::Builder::new().name("marks".into()).spawn(move || {
        for job in jobs {
            let done = match job {
                Job::Forget(tuple) => conntrack.forget(&tuple),
                Job::Reset(tuple) => conntrack.set_mark(&tuple, scheme.apply(Mark::NONE, 0), scheme.mask()),
                Job::List(purpose) => list(&mut conntrack, scheme, purpose, &listed),
            };
            report(&status, done);
        }
    })?;
    Ok(sender)
}

fn list(
    conntrack: &mut Conntrack,
    scheme: MarkScheme,
    purpose: Purpose,
    listed: &tokio_mpsc::Sender<Listed>,
) -> Result<(), netlink::Error> {
    let mut entries = Vec::new();
    conntrack.dump(|entry| {
        if Mark::ALL.contains(&scheme.read(entry.mark)) {
            entries.push(entry);
        }
    })?;
    // the receiver is gone only when the service stops
    let _ = listed.blocking_send((purpose, entries));
    Ok(())
}

fn report(status: &Status, done: Result<(), netlink::Error>) {
    match done {
        Ok(()) => status.clear("conntrack"),
        Err(error) => status.raise(
            "conntrack",
            format!(
                "connections keep an older decision: {:#}",
                anyhow::Error::new(error)
            ),
        ),
    }
}
