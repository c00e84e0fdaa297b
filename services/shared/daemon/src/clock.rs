//! The two clocks of this host.

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use rustix::time::{ClockId, clock_gettime};
use verdict::policy::model::{Clocks, SinceBoot};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The present. The first call reads a file: make it before files are out of reach.
pub fn now() -> Clocks {
    Clocks {
        wall: SystemTime::now(),
        boot: boot_id().map(|boot| SinceBoot {
            boot,
            elapsed: since_boot(),
        }),
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

fn boot_id() -> Option<[u8; 16]> {
    static BOOT: OnceLock<Option<[u8; 16]>> = OnceLock::new();
    *BOOT.get_or_init(|| parse(&std::fs::read_to_string(BOOT_ID).ok()?))
}

/// `3e976734-4190-4c0d-a180-379f2ab7c5f3`
fn parse(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|letter| *letter != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_boot_has_a_number_and_its_clock_goes_on() {
        let before = now().boot.unwrap();
        let after = now().boot.unwrap();
        assert_eq!(before.boot, after.boot);
        assert!(before.elapsed <= after.elapsed && !before.elapsed.is_zero());
    }

    #[test]
    fn a_boot_id_is_a_uuid() {
        let id = parse("3e976734-4190-4c0d-a180-379f2ab7c5f3\n").unwrap();
        assert_eq!((id[0], id[15]), (0x3e, 0xf3));
        for text in ["", "x", "3e976734", "+e976734-4190-4c0d-a180-379f2ab7c5f3", "é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
