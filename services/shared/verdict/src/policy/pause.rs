//! Spans of time: a pause takes as long as it was asked for, however the wall clock is set meanwhile.

use std::time::{Duration, SystemTime};

/// The present, by both clocks of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// For dates. It may be set, forwards and back.
    pub wall: SystemTime,
    /// For spans. `None` where it is not known: dates must do.
    pub boot: Option<SinceBoot>,
}

/// By the wall clock alone.
impl From<SystemTime> for Clocks {
    fn from(wall: SystemTime) -> Self {
        Self { wall, boot: None }
    }
}

/// A moment by the clock that nobody sets, and that goes on while the host sleeps (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinceBoot {
    /// Which boot of which host: `/proc/sys/kernel/random/boot_id`.
    pub boot: [u8; 16],
    /// Since then.
    pub elapsed: Duration,
}

/// A span of time in which what would be refused passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it was asked for.
    pub from: SystemTime,
    /// From this time on it is over, by the wall clock as it was when it was asked for.
    pub until: SystemTime,
    /// The same moment as `from`; where it is of this boot, it alone counts.
    pub began: Option<SinceBoot>,
}

impl Pause {
    /// No pause is longer: one that is forgotten ends within a day.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    /// By the wall clock alone: one that is set back by more than this ends the pause, which must not last longer than was
    /// asked for.
    const SLACK: Duration = Duration::from_secs(60);

    /// From now on, for so long; `None` where there is no such date.
    pub fn new(now: Clocks, length: Duration) -> Option<Self> {
        Some(Self {
            from: now.wall,
            until: now.wall.checked_add(length)?,
            began: now.boot,
        })
    }

    /// Whether it holds at this time. One that is longer than [`Self::LONGEST`] never does.
    pub fn holds(&self, now: Clocks) -> bool {
        self.rest(now).is_some()
    }

    /// How much of it is left; `None`: it is over.
    pub fn rest(&self, now: Clocks) -> Option<Duration> {
        let length = self.until.duration_since(self.from).ok()?;
        if length > Self::LONGEST {
            return None;
        }
        let rest = match (self.began, now.boot) {
            (Some(began), Some(now)) if began.boot == now.boot => {
                length.checked_sub(now.elapsed.checked_sub(began.elapsed)?)?
            }
            // the host was booted since, or nobody counted
            _ => {
                let begun = now.wall.checked_add(Self::SLACK)? >= self.from;
                self.until.duration_since(now.wall).ok().filter(|_| begun)?
            }
        };
        (!rest.is_zero()).then_some(rest)
    }

    /// Its end by the wall clock as it is set now; `None`: it is over.
    pub fn ends(&self, now: Clocks) -> Option<SystemTime> {
        now.wall.checked_add(self.rest(now)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const BOOT: [u8; 16] = [17; 16];

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn at(wall: SystemTime, elapsed: Duration) -> Clocks {
        let boot = Some(SinceBoot { boot: BOOT, elapsed });
        Clocks { wall, boot }
    }

    fn pause(length: Duration) -> Pause {
        Pause::new(at(noon(), MINUTE), length).unwrap()
    }

    #[test]
    fn ten_minutes_are_ten_minutes_whatever_the_wall_clock_says() {
        let pause = pause(10 * MINUTE);
        for wall in [
            noon() - 1000 * MINUTE,
            noon() - MINUTE,
            noon(),
            noon() + 1_000_000 * MINUTE,
        ] {
            assert_eq!(pause.rest(at(wall, MINUTE)), Some(10 * MINUTE));
            assert_eq!(pause.ends(at(wall, 8 * MINUTE)), Some(wall + 3 * MINUTE));
            assert!(!pause.holds(at(wall, 11 * MINUTE)));
            assert!(!pause.holds(at(wall, Duration::ZERO)), "before it began");
        }
    }

    #[test]
    fn after_another_boot_dates_must_do() {
        let pause = pause(10 * MINUTE);
        let booted = |wall, elapsed| Clocks {
            wall,
            boot: Some(SinceBoot {
                boot: [18; 16],
                elapsed,
            }),
        };
        for now in [booted(noon() + MINUTE, Duration::ZERO), (noon() + MINUTE).into()] {
            assert_eq!(pause.rest(now), Some(9 * MINUTE));
        }
        assert!(!pause.holds(booted(noon() + 10 * MINUTE, Duration::ZERO)));
    }

    #[test]
    fn by_dates_alone_a_clock_that_is_set_back_ends_it_and_a_long_one_never_holds() {
        let pause = |seconds| Pause {
            from: noon(),
            until: noon() + Duration::from_secs(seconds),
            began: None,
        };
        assert!(pause(600).holds((noon() - Duration::from_secs(30)).into()));
        assert!(!pause(600).holds((noon() - Duration::from_secs(61)).into()));
        assert!(pause(86_400).holds(noon().into()) && !pause(86_401).holds(noon().into()));
        assert!(!pause(0).holds(noon().into()));
    }

    proptest! {
        /// However the clock is set and however often: never longer than was asked for, and never shorter.
        #[test]
        fn jumps_change_nothing(
            length in 1..=86_400_u64,
            passed in 0..200_000_u64,
            jump in -4_000_000_000..4_000_000_000_i64,
        ) {
            let pause = pause(Duration::from_secs(length));
            let by = Duration::from_secs(jump.unsigned_abs());
            let wall = if jump < 0 { noon().checked_sub(by) } else { noon().checked_add(by) };
            let now = at(wall.unwrap_or(SystemTime::UNIX_EPOCH), MINUTE + Duration::from_secs(passed));
            prop_assert_eq!(pause.holds(now), passed < length);
            prop_assert!(pause.rest(now).is_none_or(|rest| rest.as_secs() == length - passed));
        }
    }
}
