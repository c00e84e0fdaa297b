//! Tests as sentences over real namespaces, buses and kernels; benchmarks.
//!
//! Nothing here touches the machine's own network namespace: rules, queues, sysctls and traffic live in namespaces
//! called `pm-<label>-<pid>-<n>`, which end with the test that made them, also when it was killed (the next test that
//! makes a namespace sweeps up).
#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a harness for tests: whatever fails here fails the test, and must say on what object"
)]

pub mod app;
pub mod booted;
pub mod bus;
pub mod capture;
mod certificate;
mod clock;
pub mod echo;
pub mod events;
pub mod link;
pub mod nameserver;
pub mod namespace;
pub mod process;
pub mod sse;
pub mod wait;
pub mod world;

use std::path::PathBuf;

pub use app::{App, Attempt, Call, profile};
pub use booted::Booted;
pub use bus::PrivateBus;
pub use capture::Capture;
pub use certificate::certificate;
pub use clock::WrongClock;
pub use events::Events;
pub use link::Link;
pub use nameserver::NameServer;
pub use namespace::Namespace;
pub use process::Running;
pub use wait::{PATIENCE, eventually};
pub use world::{Service, World};

/// The path of one of the workspace's programs, built with the same profile as the running test.
///
/// # Panics
/// Where it is not built: cargo builds other packages' programs only when told to.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("read /proc/self/exe");
    let folder = own
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .expect("a program has a folder");
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

/// # Panics
/// Without root: namespaces, rules and queues need it.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes network namespaces: run it as root (`sudo make test`)"
    );
}
