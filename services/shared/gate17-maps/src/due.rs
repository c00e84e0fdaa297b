//! When the map is to be fetched again.

use std::time::Duration;

use gate17_proto::map::Map;
use jiff::Timestamp;

/// At most, while the map holds for long.
const OFTEN: Duration = Duration::from_secs(6 * 3600);
/// At least, whatever there is.
const SELDOM: Duration = Duration::from_secs(60);
/// After the start: the nodes may know a later one.
const SOON: Duration = Duration::from_secs(2);
/// After a failure; twice as long after the next one.
const REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(1800);

/// How long to wait; `fetched`: since the service started; `failures`: one after the other; `seed`: not all clients come at
/// one time.
pub fn next(map: Option<&Map>, fetched: bool, failures: u32, now: Timestamp, seed: u64) -> Duration {
    if failures > 0 {
        let rest = REST * 2_u32.saturating_pow((failures - 1).min(16));
        return scattered(rest.min(LONGEST_REST), seed);
    }
    let left = map.map_or(Duration::ZERO, |map| {
        Duration::try_from(map.expires.duration_since(now)).unwrap_or_default()
    });
    if !fetched {
        return SOON;
    }
    scattered((left / 4).clamp(SELDOM, OFTEN), seed)
}

/// A fifth less, at most.
fn scattered(pause: Duration, seed: u64) -> Duration {
    pause - pause / 5 * u32::try_from(seed % 1000).unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::map;

    proptest! {
        #[test]
        fn a_map_is_fetched_anew_several_times_before_it_is_over(seconds in 600_i64..10_000_000, seed: u64) {
            let (mut map, now) = (map(1), Timestamp::UNIX_EPOCH);
            map.expires = Timestamp::from_second(seconds).unwrap();
            let pause = next(Some(&map), true, 0, now, seed);
            prop_assert!(pause >= SELDOM * 4 / 5 && pause <= OFTEN);
            prop_assert!(pause.as_secs() * 4 <= u64::try_from(seconds).unwrap());
        }

        #[test]
        fn failures_make_it_rest_longer_and_never_for_too_long(failures in 1_u32..100, seed: u64) {
            let rest = |failures| next(None, true, failures, Timestamp::UNIX_EPOCH, seed);
            prop_assert!(rest(failures) <= rest(failures + 1));
            prop_assert!(rest(failures) >= REST * 4 / 5 && rest(failures) <= LONGEST_REST);
        }
    }

    #[test]
    fn at_the_start_it_is_asked_soon_and_an_expired_one_is_no_reason_to_hammer() {
        let mut map = map(1);
        assert_eq!(next(None, false, 0, Timestamp::UNIX_EPOCH, 0), SOON);
        map.expires = Timestamp::UNIX_EPOCH;
        assert_eq!(
            next(Some(&map), true, 0, Timestamp::from_second(1).unwrap(), 0),
            SELDOM
        );
    }
}
