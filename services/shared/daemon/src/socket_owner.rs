//! Whose a root service's connections are, as the packet path sees it.
//!
//! The firewall knows the mesh's own traffic by the socket's owner. Under systemd each service is a user of its own, and
//! nothing is to be done; where `portmaster up` runs all of them as root, this one lends its sockets another owner:
//! NFQUEUE reports the file-system uid of whoever made a socket (`nfnetlink_queue.c`, `credentials(7)`).

use std::io;

use anyhow::Context as _;
use rustix::{
    process::{
        DumpableBehavior, parent_process_death_signal, set_dumpable_behavior, set_parent_process_death_signal,
    },
    thread::{CapabilitySet, capabilities, set_capabilities},
};

/// Of services that make connections.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Args {
    /// Make connections as this user, so that the firewall knows them; for `portmaster up`, where all services run as root
    #[arg(long, value_name = "UID", hide = true)]
    socket_uid: Option<u32>,
}

impl Args {
    /// Does what they say. Call before any other thread is started.
    ///
    /// # Errors
    /// Where this process is not root.
    pub fn apply(self) -> anyhow::Result<()> {
        match self.socket_uid {
            Some(uid) => lend_sockets_to(uid)
                .context("give connections to another user (--socket-uid, for root alone)"),
            None => Ok(()),
        }
    }
}

/// From now on, sockets that this thread and those that it starts make belong to `uid`; files as well. All else stays as it
/// is. Call before any other thread is started.
///
/// # Errors
/// Where this process is not root.
#[expect(unsafe_code, reason = "no safe wrapper of setfsuid(2) is to be had")]
fn lend_sockets_to(uid: u32) -> io::Result<()> {
    let (before, ends_with) = (capabilities(None)?, parent_process_death_signal()?);
    // SAFETY: setfsuid changes a number of the calling thread in the kernel, and touches no memory.
    let now = unsafe {
        libc::setfsuid(uid);
        libc::setfsuid(uid)
    };
    if u32::try_from(now) != Ok(uid) {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    // the kernel takes what root may do with files away with the uid; root's files are still ours
    let files = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID;
    let mut sets = capabilities(None)?;
    sets.effective = before.effective | (files & before.permitted);
    set_capabilities(None, sets)?;
    // with other credentials the kernel forgets by which signal this process ends with its parent, and hides it from others
    set_parent_process_death_signal(ends_with)?;
    Ok(set_dumpable_behavior(DumpableBehavior::Dumpable)?)
}
