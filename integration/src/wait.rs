//! Waiting for conditions, never for times: a noisy machine makes a test slower, not red.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take before the test fails. Generous: reached only by what never comes true.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Asks again and again until there is an answer.
///
/// # Panics
/// After [`PATIENCE`], with `what`.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain until {what}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}
