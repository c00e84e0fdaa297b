//! `org.portmaster.Service1`, which every service has: translates, no more.

use std::collections::HashMap;

use zbus::interface;

use crate::status::Status;

/// `org.portmaster.Service1`: what every service says of itself, to everyone.
#[derive(Debug)]
pub(super) struct State {
    pub(super) status: Status,
}

#[interface(name = "org.portmaster.Service1")]
impl State {
    /// 1 starting, 2 working, 3 working with less than it should have, 4 failed.
    #[zbus(property)]
    fn state(&self) -> u32 {
        u32::try_from(i32::from(self.status.health())).unwrap_or(0)
    }

    /// Of the running binary.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> String {
        self.status.snapshot().version
    }

    /// Of the policy in force in this service; 0 where it has none.
    #[zbus(property)]
    fn policy_version(&self) -> u64 {
        self.status.snapshot().policy_version
    }

    /// What is wrong: a stable word, and what it means.
    #[zbus(property)]
    fn problems(&self) -> Vec<(String, String)> {
        self.status
            .snapshot()
            .problems
            .into_iter()
            .map(|problem| (problem.code, problem.text))
            .collect()
    }

    /// Monotonic since start, unless the name ends in `_now`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self) -> HashMap<String, u64> {
        self.status.snapshot().counters
    }
}
