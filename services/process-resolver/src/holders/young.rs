//! Processes that just began: whose socket an unknown one probably is.

use std::{collections::VecDeque, fs};

/// Pids to try below the latest, at most.
const NEWEST: u32 = 64;
/// Young processes that are kept in mind.
pub(super) const YOUNG: usize = 64;

/// Processes that began lately and that no socket was found at, the youngest first.
#[derive(Debug, Default)]
pub(super) struct Young {
    /// The latest pid when it was last looked at.
    seen: u32,
    /// The candidates.
    pub(super) pids: VecDeque<u32>,
}

impl Young {
    /// Takes in who began since the last look, in front; gives how many pids these are.
    pub(super) fn look(&mut self) -> usize {
        let Some(latest) = latest_pid() else { return 0 };
        // pids wrap: then there is nothing between, and the search of all finds it
        let first = latest.saturating_sub(NEWEST).max(self.seen.min(latest)) + 1;
        self.seen = latest;
        for pid in first..=latest {
            self.pids.push_front(pid);
        }
        self.pids.truncate(YOUNG);
        (first..=latest).count().min(YOUNG)
    }
}

/// The last word of `/proc/loadavg`: the pid that was given out most recently in this pid namespace.
fn latest_pid() -> Option<u32> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_ascii_whitespace()
        .last()?
        .parse()
        .ok()
}
