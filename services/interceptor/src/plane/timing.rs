//! The packet path's time.

use std::{rc::Rc, time::Duration};

use daemon::ready::Watchdog;
use tokio::{sync::Notify, time::Instant};

use super::Shared;

/// A timer that rings later than this was not run for lack of a processor.
const LATE: Duration = Duration::from_millis(20);
const MOST_LATE: Duration = Duration::from_millis(500);
/// Of the runtime, until what lies in a socket has come to the judge: by the connection, its stream and the task that reads it.
const TURNS: usize = 16;

/// Rings when the judge has something to do, and often enough that the service manager sees this thread turn. Before a flow is
/// decided without an answer, what came meanwhile is read.
pub(super) async fn keep_time(core: Shared, timer: Rc<Notify>) -> anyhow::Result<()> {
    let mut watchdog = Watchdog::from_environment();
    loop {
        let next = core.borrow_mut().arm();
        let turn = watchdog.pause().map(|pause| Instant::now() + pause);
        tokio::select! {
            () = until(next) => {
                hear_out(next.map(|next| next.elapsed()).unwrap_or_default()).await;
                core.borrow_mut().time_passed();
            }
            () = timer.notified() => {}
            () = until(turn) => {}
        }
        if watchdog.is_due() && core.borrow_mut().is_well() {
            watchdog.feed();
        }
    }
}

/// A timer that rings so late was kept from the processor, and so were those who answer: what is late by their clock and ours
/// is not late by anybody's fault, and waits as long once more. Answers that lie in their sockets are read in any case.
async fn hear_out(late: Duration) {
    if late > LATE {
        tokio::time::sleep(late.min(MOST_LATE)).await;
    }
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

/// For ever where there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
