//! Tells the service manager that questions are answered: one of our own goes the way of everybody's.
//!
//! A new socket of this process is looked for: the kernel is asked on the socket that answers callers, a turn among the
//! searches is waited for, and its holder is searched for on the threads that search for callers. So a service whose threads
//! hang, whose searches never end or that runs out of descriptors is ended and comes back; one that has much to do is not,
//! since nobody waits for a turn longer than [`crate::rpc`] lets him.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixDatagram},
    sync::Arc,
};

use daemon::{ready::Watchdog, status::Status};
use rustix::{fs::fstat, process::geteuid};
use tokio::sync::Semaphore;

use netlink::diag::Found;

use crate::ladder::Ladder;

const BLIND: &str = "no-probe";

/// For ever; what nobody asked for is not done.
pub async fn keep_asking(ladder: Arc<Ladder>, searches: Arc<Semaphore>, status: Status) {
    let mut watchdog = Watchdog::from_environment();
    let Some(pause) = watchdog.pause() else {
        return std::future::pending().await;
    };
    let mut able = true;
    for first in std::iter::once(true).chain(std::iter::repeat(false)) {
        let answered = ask(&ladder, &searches).await;
        if first && !answered {
            able = false;
            status.raise(
                BLIND,
                "a socket of this very process is not found, so a search that goes wrong later is not noticed: mount /proc, and allow CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH",
            );
        }
        // another start would be no better where the first answer was none
        if answered || !able {
            watchdog.feed();
        }
        tokio::time::sleep(pause).await;
    }
}

/// Whether the question has the right answer; no answer is waited for without end.
async fn ask(ladder: &Arc<Ladder>, searches: &Arc<Semaphore>) -> bool {
    let Ok(turn) = Arc::clone(searches).acquire_owned().await else {
        return false;
    };
    let ladder = Arc::clone(ladder);
    let search = tokio::task::spawn_blocking(move || {
        let found = own_socket().is_ok_and(|(_open, socket)| ladder.answers(&socket));
        drop(turn);
        found
    });
    search.await.unwrap_or(false)
}

/// Of a family that the unit allows us: sockets of all families have their inodes from one place.
fn own_socket() -> io::Result<(UnixDatagram, Found)> {
    let socket = UnixDatagram::unbound()?;
    let found = Found {
        inode: fstat(socket.as_fd())?.st_ino,
        uid: geteuid().as_raw(),
        cgroup_id: 0,
    };
    Ok((socket, found))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ladder::SocketLookup;

    fn ladder() -> Arc<Ladder> {
        let status = Status::new(crate::ABOUT);
        let stop = tokio_util::sync::CancellationToken::new();
        Arc::new(Ladder::new(SocketLookup::Auto, 16, 16, &status, stop))
    }

    #[tokio::test]
    async fn a_socket_of_this_process_is_found_each_time() {
        let (ladder, searches) = (ladder(), Arc::new(Semaphore::new(1)));
        for _ in 0..3 {
            assert!(ask(&ladder, &searches).await);
        }
        // a socket that nobody holds
        let (open, socket) = own_socket().unwrap();
        drop(open);
        assert!(!ladder.answers(&socket));
    }

    #[tokio::test]
    async fn searches_that_never_end_leave_the_question_without_an_answer() {
        let (ladder, searches) = (ladder(), Arc::new(Semaphore::new(1)));
        let hangs = searches.acquire().await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), ask(&ladder, &searches));
        waited.await.unwrap_err();
        drop(hangs);
        assert!(ask(&ladder, &searches).await);
    }
}
