//! What the kernel says about our queues, and the one setting of it that we need.

use std::{fs, time::Duration};

use daemon::status::Status;
use tokio_util::sync::CancellationToken;

use netlink::queues::Statistics;

use crate::nfqueue::QueueNumber;

const ACCOUNTING: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";
const INTERVAL: Duration = Duration::from_secs(2);
/// Intervals without a loss after which the problem is over.
const QUIET: u32 = 15;

/// Has conntrack count octets and packets, in this network namespace.
pub fn count_traffic(status: &Status) {
    let is_on = || fs::read_to_string(ACCOUNTING).is_ok_and(|value| value.trim() == "1");
    if !is_on() && fs::write(ACCOUNTING, "1").is_err() && !is_on() {
        status.raise(
            "accounting-off",
            "connections end without octets and packets: set the sysctl net.netfilter.nf_conntrack_acct to 1",
        );
    }
}

/// Publishes the kernel's drops, until `shutdown`.
pub async fn watch_queues(status: Status, shutdown: CancellationToken) {
    let waiting = status.counter("queue_waiting_now");
    let full = status.counter("kernel_dropped_queue_full");
    let unread = status.counter("kernel_dropped_buffer_full");
    let mut quiet = QUIET;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let statistics: Vec<_> = QueueNumber::ALL
            .into_iter()
            .filter_map(|queue| Statistics::read(queue.0))
            .collect();
        let sum = |of: fn(&Statistics) -> u64| statistics.iter().map(of).sum::<u64>();
        let before = full.get() + unread.get();
        waiting.set(sum(|queue| queue.waiting));
        full.set(sum(|queue| queue.dropped_full));
        unread.set(sum(|queue| queue.dropped_unread));
        let lost = (full.get() + unread.get()).saturating_sub(before);
        if lost > 0 {
            quiet = 0;
            status.raise(
                "kernel-drops",
                "the kernel drops first packets, more come than can be decided: see kernel_dropped_*",
            );
        } else if quiet < QUIET {
            quiet += 1;
            if quiet == QUIET {
                status.clear("kernel-drops");
            }
        }
    }
}
