//! Readiness for the service manager (`sd_notify(3)`). Without one, nothing happens.

use std::os::fd::{FromRawFd as _, OwnedFd};

use sd_notify::NotifyState;

/// The service decides, answers, publishes.
pub fn ready(text: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(text)]);
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The work loop made a turn: called by that loop itself, so that a watchdog proves more than a ticking runtime.
pub fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// Sockets that the service manager passed, by name.
#[expect(unsafe_code, reason = "descriptors come as numbers")]
pub fn passed_sockets() -> Vec<(String, OwnedFd)> {
    let Ok(passed) = sd_notify::listen_fds_with_names() else {
        return Vec::new();
    };
    // SAFETY: the service manager opened these descriptors for this process, and nobody else took them up: this is the
    // only place that does, and the variables are removed by the first call.
    passed
        .map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }))
        .collect()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
