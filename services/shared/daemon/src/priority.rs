//! `Nice=` of a unit, made to hold against everybody.
//!
//! Where the kernel groups by session (`sched(7)`, autogroup), which is what most hosts do, a nice value counts among the processes of one
//! session alone, and a service is a session of its own. The group has a nice value as well, in `/proc/self/autogroup`.

use std::{fs, io, time::Duration};

use rustix::process::getpriority_process;

const GROUP: &str = "/proc/self/autogroup";
/// The kernel takes one such word in a tenth of a second, of all processes together that are not root's.
const TURN: Duration = Duration::from_millis(110);
/// More than there are services to be started at once.
const TURNS: usize = 20;

/// Gives this service's group the nice value that the service itself was started with, where that is below zero. Needs
/// `LimitNICE=` in the unit.
pub(crate) async fn hold() {
    let Ok(nice @ ..0) = getpriority_process(None) else {
        return;
    };
    let mut written = fs::write(GROUP, nice.to_string());
    for _ in 0..TURNS {
        if !matches!(&written, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        tokio::time::sleep(TURN).await;
        written = fs::write(GROUP, nice.to_string());
    }
    match written {
        Ok(()) => {}
        // this kernel does not group
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            nice,
            "cannot write {GROUP}: {error}: where other programs take all the processor there is, this service waits for them"
        ),
    }
}
