//! How many sessions there are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use daemon::status::Counter;

/// How many sessions there are, over all sockets; clones count together.
#[derive(Clone, Debug)]
pub struct Now {
    count: Arc<AtomicU64>,
    told: Counter,
}

impl Now {
    /// None; `told` says how many.
    pub fn new(told: Counter) -> Self {
        Self {
            count: Arc::default(),
            told,
        }
    }

    /// One more, until it is dropped.
    pub(super) fn one_more(&self) -> One {
        self.told.set(self.count.fetch_add(1, Ordering::Relaxed) + 1);
        One(self.clone())
    }
}

/// A session that is counted; dropped, it is not.
pub(super) struct One(Now);

impl Drop for One {
    fn drop(&mut self) {
        let Now { count, told } = &self.0;
        told.set(count.fetch_sub(1, Ordering::Relaxed).saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use daemon::{About, status::Status};

    use super::*;

    #[test]
    fn sessions_of_several_sockets_are_counted_together() {
        let status = Status::new(About {
            name: "test",
            version: "",
        });
        let counter = || status.counter("datagram_flows_now");
        let now = Now::new(counter());
        let other = now.clone();
        let (first, second) = (now.one_more(), other.one_more());
        assert_eq!(counter().get(), 2);
        drop(first);
        assert_eq!(counter().get(), 1);
        drop(second);
        assert_eq!(counter().get(), 0);
    }
}
