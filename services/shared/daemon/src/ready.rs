//! Readiness, watchdog and descriptors, with the service manager (`sd_notify(3)`, `sd_listen_fds(3)`). Without one, nothing
//! happens.

use std::{
    io,
    os::fd::{AsFd, FromRawFd as _, OwnedFd},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::io::{FdFlags, fcntl_setfd};
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

/// The service decides, answers, publishes.
pub fn ready(text: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(text)]);
}

/// The service reads its configuration again; [`ready`] ends it (`Type=notify-reload` wants both, `Type=notify` has them).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of a reload"),
    }
}

/// Another process of this service is the service from now on.
pub fn hand_over_to(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The work loop made a turn, for loops that turn seldom; [`Watchdog`] is for those that turn often.
pub fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// The service ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells the service manager that work is being done. It belongs to the loop that does the work, which feeds it on every
/// turn: so it proves more than that the runtime ticks.
#[derive(Debug)]
pub struct Watchdog {
    /// Between two messages; none where nobody asked for them.
    pause: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// As `WatchdogSec=` of the unit says.
    pub fn from_environment() -> Self {
        Self {
            // a late turn or two are no death
            pause: sd_notify::watchdog_enabled().map(|limit| limit / 4),
            last: None,
        }
    }

    /// How often the loop must come by even when it has nothing to do; `None` where it need not.
    pub fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// Whether [`Self::feed`] would tell: the moment to look whether all is well.
    pub fn is_due(&self) -> bool {
        self.pause
            .is_some_and(|pause| self.last.is_none_or(|last| last.elapsed() >= pause))
    }

    /// The loop made a turn. Cheap enough for each: most of them send nothing.
    pub fn feed(&mut self) {
        if self.is_due() {
            self.last = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// For a service whose one event loop does the work: it turns as long as this does. Returns when the service is to end.
pub async fn feed_until(shutdown: &CancellationToken) {
    let mut watchdog = Watchdog::from_environment();
    let Some(pause) = watchdog.pause() else {
        return std::future::pending().await;
    };
    while shutdown
        .run_until_cancelled(tokio::time::sleep(pause))
        .await
        .is_some()
    {
        watchdog.feed();
    }
    stopping();
}

/// The descriptors that the service manager passed or kept for us under this name (`FileDescriptorName=`, [`store`]), in
/// order. Each is handed out once; later calls get none.
pub fn take_passed(name: &str) -> Vec<OwnedFd> {
    let mut passed = passed().lock().unwrap_or_else(PoisonError::into_inner);
    let (ours, others) = passed.drain(..).partition(|(of, _)| of == name);
    *passed = others;
    let ours: Vec<(String, OwnedFd)> = ours;
    ours.into_iter().map(|(_, fd)| fd).collect()
}

/// Whether there is a service manager to talk to (`NOTIFY_SOCKET`).
pub fn is_supervised() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Sockets of the mesh come from a service manager, which starts their services for whoever knocks.
pub fn is_passed() -> bool {
    WAS_PASSED.load(Ordering::Relaxed)
}

pub(crate) fn was_passed() {
    WAS_PASSED.store(true, Ordering::Relaxed);
}

static WAS_PASSED: AtomicBool = AtomicBool::new(false);

/// What was passed or kept and not taken, with its names.
pub fn take_rest() -> Vec<(String, OwnedFd)> {
    let mut passed = passed().lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut passed)
}

/// Gives the service manager a duplicate to keep: the next start of this service, also after a crash, gets it from
/// [`take_passed`]. Needs `FileDescriptorStoreMax=` in the unit. `Ok` also where there is no service manager.
pub fn store(name: &str, fd: impl AsFd) -> io::Result<()> {
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd.as_fd()])
}

/// Has the service manager forget what was kept under this name.
pub fn forget(name: &str) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

#[expect(unsafe_code, reason = "descriptors come as numbers")]
fn passed() -> &'static Mutex<Vec<(String, OwnedFd)>> {
    static PASSED: OnceLock<Mutex<Vec<(String, OwnedFd)>>> = OnceLock::new();
    PASSED.get_or_init(|| {
        let Ok(numbers) = sd_notify::listen_fds_with_names() else {
            return Mutex::default();
        };
        // SAFETY: the service manager opened these for this very process (LISTEN_PID is compared), and nobody else takes
        // them up: this is the only place that reads the variables, and it does so once.
        let owned = numbers.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }));
        let owned: Vec<_> = owned.collect();
        for (_, fd) in &owned {
            // programs that we start have no business with them
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        Mutex::new(owned)
    })
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
