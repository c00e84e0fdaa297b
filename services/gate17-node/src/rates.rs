//! How often a client network, and all together, may do a thing: so many at once, then so many a second.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::limits::Network;

/// See the module's head; 0 a second: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// Who is remembered at most: who is not, is admitted only when others were forgotten.
const REMEMBERED: usize = 65_536;

/// Counts.
#[derive(Debug)]
pub struct Rates {
    each: Rate,
    all: Option<Rate>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: Option<Instant>,
    each: HashMap<Network, Instant>,
}

impl Rates {
    /// `each` network so often; `all` together, where that is bounded.
    pub fn new(each: Rate, all: Option<Rate>) -> Self {
        Self {
            each,
            all,
            state: Mutex::default(),
        }
    }

    /// Whether it may be now; then it was.
    pub fn admits(&self, who: Network, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.each.len() >= REMEMBERED && !state.each.contains_key(&who) {
            state.each.retain(|_, due| *due > now);
            if state.each.len() >= REMEMBERED {
                return false;
            }
        }
        let own = state.each.get(&who).copied();
        let Some(own) = self.each.next(own, now) else {
            return false;
        };
        if let Some(rate) = self.all {
            let Some(all) = rate.next(state.all, now) else {
                return false;
            };
            state.all = Some(all);
        }
        state.each.insert(who, own);
        true
    }
}

impl Rate {
    /// When all that was done will have been due (the generic cell rate algorithm of ATM); None: it is too much.
    fn next(self, due: Option<Instant>, now: Instant) -> Option<Instant> {
        let pause = Duration::from_secs(1).checked_div(self.per_second)?;
        let due = due.map_or(now, |due| due.max(now)).checked_add(pause)?;
        (due.duration_since(now) <= pause.saturating_mul(self.burst.max(1))).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(octet: u8) -> Network {
        Network::of([192, 0, octet, 1].into())
    }

    #[test]
    fn a_network_has_its_burst_then_its_rate_and_all_together_have_theirs() {
        let rate = |per_second, burst| Rate { per_second, burst };
        let rates = Rates::new(rate(2, 3), Some(rate(10, 4)));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let count = |who: u8, now| (0..20).filter(|_| rates.admits(network(who), now)).count();
        assert_eq!(count(1, start), 3, "its burst");
        assert_eq!(count(2, start), 1, "what all together had left");
        assert_eq!(count(1, start + second), 2, "its rate");
        assert_eq!(count(1, start + 60 * second), 3, "and not more after a rest");
        assert!(!Rates::new(rate(0, 9), None).admits(network(1), start));
    }
}
