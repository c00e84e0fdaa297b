//! Processes that asked lately, the latest first.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// How many are kept in mind.
const MOST: usize = 32;

/// Pids; who they are by now is the caller's to see.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<u32>>);

impl Recent {
    pub(super) fn pids(&self) -> Vec<u32> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }

    /// This one is the latest. `is_alive` is asked about the latest few: short-lived ones would be asked for long after
    /// their end.
    pub(super) fn touch(&self, pid: u32, is_alive: impl Fn(u32) -> bool) {
        const CHECKED: usize = 4;
        let mut pids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pids.front() == Some(&pid) {
            return;
        }
        let mut place = 0;
        pids.retain(|other| {
            place += 1;
            *other != pid && (place > CHECKED || is_alive(*other))
        });
        pids.push_front(pid);
        pids.truncate(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_comes_first_and_the_dead_go() {
        let recent = Recent::default();
        for pid in [1, 2, 3, 2] {
            recent.touch(pid, |_| true);
        }
        assert_eq!(recent.pids(), [2, 3, 1]);
        recent.touch(4, |pid| pid != 3);
        assert_eq!(recent.pids(), [4, 2, 1]);
        for pid in 10..100 {
            recent.touch(pid, |_| true);
        }
        assert_eq!(recent.pids().len(), MOST);
    }
}
