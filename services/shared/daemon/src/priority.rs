//! `Nice=` of a unit, made to hold against everybody.
//!
//! Where the kernel groups by session (`sched(7)`, autogroup), which is what most hosts do, a nice value counts among the processes of one
//! session alone, and a service is a session of its own. The group has a nice value as well, in `/proc/self/autogroup`.

use std::{fs, io};

use rustix::process::getpriority_process;

const GROUP: &str = "/proc/self/autogroup";

/// Gives this service's group the nice value that the service itself was started with, where that is below zero. Needs
/// `LimitNICE=` in the unit.
pub(crate) fn hold() {
    let Ok(nice @ ..0) = getpriority_process(None) else {
        return;
    };
    match fs::write(GROUP, nice.to_string()) {
        Ok(()) => {}
        // this kernel does not group
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            %error,
            nice,
            "cannot write {GROUP}: where other programs take all the processor there is, this service waits for them"
        ),
    }
}
