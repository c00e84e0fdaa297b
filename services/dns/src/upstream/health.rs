//! Whether an upstream answers, and how fast. Pure: the time is an argument, counted from any moment.

use std::time::Duration;

/// So many failures in a row make an upstream count as down.
const FAILURES: u32 = 3;
/// The first pause before a server that is down is asked again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// With all upstreams down, each is tried again after this, if anybody asks.
const URGENT_PAUSE: Duration = Duration::from_secs(1);
/// A minute of outage costs no more than this once it is over.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The weight of the past in the smoothed round trip time: 7/8, as in TCP (RFC 6298).
const SMOOTHING: u32 = 8;

/// What is known of one upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Health {
    failures: u32,
    down: Option<Down>,
    rtt: Option<Duration>,
    /// What was asked before says nothing of the network as it is.
    fresh_from: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Down {
    since: Duration,
    pause: Duration,
    next: Duration,
    tried: Duration,
}

/// Whether a query may go to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Up,
    /// It did not answer of late, and it is time to see whether it does again.
    Probe,
    /// It did not answer of late.
    Down,
}

/// A change of state, to be logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has stopped answering.
    WentDown,
    /// It answers again.
    CameUp {
        /// After so long.
        after: Duration,
    },
}

impl Health {
    /// Whether to ask.
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        match self.down {
            None => Standing::Up,
            Some(down) if now >= down.next => Standing::Probe,
            Some(_) => Standing::Down,
        }
    }

    /// Whether to ask when nobody else is left.
    pub(crate) fn is_urgent(&self, now: Duration) -> bool {
        self.down.is_some_and(|down| now >= down.tried + URGENT_PAUSE)
    }

    /// Takes the probe that is due, so that no second query makes it.
    pub(crate) fn claim_probe(&mut self, now: Duration) {
        if let Some(down) = &mut self.down {
            down.next = now + down.pause;
            down.tried = now;
        }
    }

    /// It answered after `took`.
    pub(crate) fn succeeded(&mut self, now: Duration, took: Duration) -> Option<Change> {
        self.failures = 0;
        self.rtt = Some(match self.rtt {
            None => took,
            Some(before) => (before * (SMOOTHING - 1) + took) / SMOOTHING,
        });
        let down = self.down.take()?;
        Some(Change::CameUp {
            after: now.saturating_sub(down.since),
        })
    }

    /// It did not answer a query that began at `began`.
    pub(crate) fn failed(&mut self, began: Duration, now: Duration) -> Option<Change> {
        if began < self.fresh_from {
            return None;
        }
        if let Some(down) = &mut self.down {
            // Queries that were under way when it went down tell nothing new.
            if began >= down.since {
                down.pause = (down.pause * 2).min(LONGEST_PAUSE);
                down.next = now + down.pause;
            }
            return None;
        }
        self.failures += 1;
        if self.failures < FAILURES {
            return None;
        }
        self.cut_off(now)
    }

    /// There is no way to it: nobody has to wait for finding out.
    pub(crate) fn cut_off(&mut self, now: Duration) -> Option<Change> {
        if self.down.is_some() {
            return None;
        }
        self.down = Some(Down {
            since: now,
            pause: FIRST_PAUSE,
            next: now + FIRST_PAUSE,
            tried: now,
        });
        Some(Change::WentDown)
    }

    /// The network is another one: what is known of the old one is worth nothing, and nothing has to wait.
    pub(crate) fn forget_pauses(&mut self, now: Duration) {
        (self.failures, self.fresh_from) = (0, now);
        self.rtt = None;
        if let Some(down) = &mut self.down {
            down.pause = FIRST_PAUSE;
            (down.next, down.tried) = (now, Duration::ZERO);
        }
    }

    /// The smoothed round trip time, once it has answered.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn down_at(now: Duration) -> Health {
        let mut health = Health::default();
        assert_eq!(health.failed(now, now), None);
        assert_eq!(health.failed(now, now), None);
        assert_eq!(health.failed(now, now), Some(Change::WentDown));
        health
    }

    #[test]
    fn three_failures_in_a_row_are_an_outage_and_two_are_not() {
        let mut health = Health::default();
        health.failed(ms(0), ms(1));
        health.failed(ms(0), ms(2));
        assert_eq!(health.succeeded(ms(3), ms(1)), None);
        health.failed(ms(4), ms(5));
        assert_eq!(health.standing(ms(6)), Standing::Up);
        assert_eq!(down_at(ms(6)).standing(ms(7)), Standing::Down);
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_only_one_query_probes() {
        let mut health = down_at(ms(0));
        let mut now = ms(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let start = now;
            while health.standing(now) != Standing::Probe {
                now += ms(10);
            }
            pauses.push((now - start).as_millis());
            health.claim_probe(now);
            assert_eq!(health.standing(now), Standing::Down);
            assert_eq!(health.failed(now, now), None);
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    }

    #[test]
    fn late_failures_of_old_queries_lengthen_no_pause() {
        let mut health = down_at(ms(100));
        for _ in 0..50 {
            health.failed(ms(50), ms(200));
        }
        assert_eq!(health.standing(ms(600)), Standing::Probe);
    }

    #[test]
    fn an_answer_ends_the_outage_and_tells_how_long_it_was() {
        let mut health = down_at(ms(100));
        assert_eq!(
            health.succeeded(ms(900), ms(8)),
            Some(Change::CameUp { after: ms(800) })
        );
        assert_eq!(health.standing(ms(900)), Standing::Up);
        assert_eq!(health.rtt(), Some(ms(8)));
        health.succeeded(ms(901), ms(16));
        assert_eq!(health.rtt(), Some(ms(9)));
    }

    #[test]
    fn with_nobody_left_a_server_is_tried_each_second() {
        let mut health = down_at(ms(0));
        for at in 1..10 {
            health.failed(ms(at * 40_000), ms(at * 40_000));
        }
        health.claim_probe(ms(400_000));
        assert!(!health.is_urgent(ms(400_999)) && health.standing(ms(401_000)) == Standing::Down);
        assert!(health.is_urgent(ms(401_000)));
    }

    #[test]
    fn another_network_is_tried_at_once() {
        let mut health = down_at(ms(0));
        health.forget_pauses(ms(1));
        assert_eq!(health.standing(ms(1)), Standing::Probe);
    }

    #[test]
    fn what_was_asked_over_the_network_of_before_is_no_failure_of_this_one() {
        let mut health = down_at(ms(0));
        health.forget_pauses(ms(900));
        for _ in 0..5 {
            health.failed(ms(500), ms(901));
        }
        assert_eq!(health.standing(ms(901)), Standing::Probe);
        let mut health = Health::default();
        health.forget_pauses(ms(900));
        for _ in 0..5 {
            assert_eq!(health.failed(ms(899), ms(901)), None);
        }
        assert_eq!(health.standing(ms(901)), Standing::Up);
    }

    #[test]
    fn who_is_cut_off_is_down_at_once_and_looked_at_soon() {
        let mut health = Health::default();
        assert_eq!(health.cut_off(ms(5)), Some(Change::WentDown));
        assert_eq!(health.cut_off(ms(6)), None);
        assert_eq!(health.standing(ms(6)), Standing::Down);
        assert_eq!(health.standing(ms(505)), Standing::Probe);
    }
}
