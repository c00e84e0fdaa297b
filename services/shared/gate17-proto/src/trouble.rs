//! How much a node is to be avoided: each failure adds, and half of it is forgotten with each [`HALF_LIFE`].

use std::time::Duration;

/// After which half of the trouble is forgotten.
pub const HALF_LIFE: Duration = Duration::from_secs(120);
/// From here on a node is chosen only where there is no other.
pub const AVOIDED: f64 = 0.5;

/// 0 (well) to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trouble(f64);

impl Trouble {
    /// After another failure, `since` the last.
    #[must_use]
    pub fn failed(self, since: Duration) -> Self {
        self.blamed(0.6, since)
    }

    /// After a failure that is its own by so much: 0 (not at all) to 1 (nothing worse could be).
    #[must_use]
    pub fn blamed(self, weight: f64, since: Duration) -> Self {
        let now = self.now(since);
        Self(now + (1.0 - now) * weight.clamp(0.0, 1.0))
    }

    /// After it did well: a quarter of what is left is forgiven.
    #[must_use]
    pub fn eased(self, since: Duration) -> Self {
        Self(self.now(since) * 0.75)
    }

    /// Without what another failure added, of which `weight` is left by now: that was somebody else's.
    #[must_use]
    pub fn cleared(self, weight: f64, since: Duration) -> Self {
        let weight = weight.clamp(0.0, 0.99);
        Self(((self.now(since) - weight) / (1.0 - weight)).max(0.0))
    }

    /// What is left of it.
    pub fn now(self, since: Duration) -> f64 {
        self.0 * (-since.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_add_up_and_are_forgotten() {
        let once = Trouble::default().failed(Duration::ZERO);
        assert!(once.now(Duration::ZERO) > AVOIDED);
        assert!(once.now(HALF_LIFE) < AVOIDED);
        let many = (0..50)
            .fold(once, |trouble, _| trouble.failed(Duration::ZERO))
            .now(Duration::ZERO);
        assert!(many > 0.9 && many <= 1.0);
        assert_eq!(once.now(Duration::MAX), 0.0);
    }

    #[test]
    fn what_was_somebody_elses_is_taken_back() {
        let before = Trouble::default().blamed(0.3, Duration::ZERO);
        let after = before.failed(Duration::ZERO).cleared(0.6, Duration::ZERO);
        assert!((after.now(Duration::ZERO) - 0.3).abs() < 1e-9);
        assert_eq!(before.cleared(0.6, Duration::ZERO), Trouble::default());
        assert_eq!(before.cleared(1.0, Duration::ZERO), Trouble::default());
    }
}
