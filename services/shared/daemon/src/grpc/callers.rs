//! Who may call. Source of what a caller is: `SO_PEERCRED` (`unix(7)`), which the kernel fills in.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use tonic::{Request, Status as Refusal, transport::server::UdsConnectInfo};

use super::GROUP;
use crate::users;

/// Who left the group is out after this.
const REMEMBERED: Duration = Duration::from_secs(10);
const MOST_REMEMBERED: usize = 256;

/// Who may call, beside root, this service's own user and the users of the mesh (`portmaster-…`).
#[derive(Clone, Copy, Debug)]
pub struct Callers {
    /// Members of group `portmaster`.
    pub group: bool,
}

impl Default for Callers {
    fn default() -> Self {
        Self { group: true }
    }
}

impl Callers {
    fn may_call(self, uid: u32, gid: u32) -> bool {
        uid == geteuid().as_raw()
            || users::name(uid).is_some_and(|name| name.starts_with("portmaster-"))
            || (self.group && (users::gid(GROUP) == Some(gid) || users::is_member(uid, GROUP)))
    }
}

/// Root, this service's own user, or another of the mesh.
pub fn is_of_the_mesh(uid: u32) -> bool {
    uid == 0 || Callers { group: false }.may_call(uid, u32::MAX)
}

/// Asks for root, a token or polkit's consent before it passes on what changes something.
const GATEWAY: &str = "portmaster-api-gateway";

/// For calls between services: no member of the group may make them, who may make others. Anybody else hears `refusal`.
pub fn mesh_alone<T>(request: &Request<T>, refusal: &str) -> Result<(), Refusal> {
    let info = request.extensions().get::<UdsConnectInfo>();
    match info.and_then(|info| info.peer_cred) {
        Some(peer) if is_of_the_mesh(peer.uid()) => Ok(()),
        _ => Err(Refusal::permission_denied(refusal)),
    }
}

/// For calls that change something: root may, and the gateway, which has asked who calls it. Anybody else hears `refusal`.
pub fn root_or_gateway<T>(request: &Request<T>, refusal: &str) -> Result<(), Refusal> {
    let info = request.extensions().get::<UdsConnectInfo>();
    match info.and_then(|info| info.peer_cred) {
        Some(peer) if peer.uid() == 0 || users::uid(GATEWAY) == Some(peer.uid()) => Ok(()),
        _ => Err(Refusal::permission_denied(refusal)),
    }
}

/// At the door of a server: reads the users' files once in a while, not for each call.
#[derive(Debug)]
pub(super) struct Door {
    callers: Callers,
    known: Mutex<HashMap<(u32, u32), (bool, Instant)>>,
}

impl Door {
    pub(super) fn new(callers: Callers) -> Self {
        Self {
            callers,
            known: Mutex::default(),
        }
    }

    pub(super) fn check(&self, request: Request<()>) -> Result<Request<()>, Refusal> {
        let info = request.extensions().get::<UdsConnectInfo>();
        match info.and_then(|info| info.peer_cred) {
            Some(peer) if self.is_open_to(peer.uid(), peer.gid()) => Ok(request),
            Some(peer) => Err(Refusal::permission_denied(format!(
                "user {} may not call this service: join group {GROUP}, or be root",
                peer.uid()
            ))),
            None => Err(Refusal::permission_denied("the caller's user is not known")),
        }
    }

    fn is_open_to(&self, uid: u32, gid: u32) -> bool {
        if uid == 0 {
            return true;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((open, since)) = known.get(&(uid, gid))
            && since.elapsed() < REMEMBERED
        {
            return *open;
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        let open = self.callers.may_call(uid, gid);
        known.insert((uid, gid), (open, Instant::now()));
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_stays_outside_and_root_comes_in() {
        let door = Door::new(Callers::default());
        assert!(door.is_open_to(0, 0) && door.is_open_to(geteuid().as_raw(), 0));
        // no user has these numbers: -2, and one below the last
        assert!(!door.is_open_to(u32::MAX - 1, u32::MAX - 1));
        assert!(!door.is_open_to(u32::MAX - 1, u32::MAX - 1));
        assert!(is_of_the_mesh(0) && !is_of_the_mesh(u32::MAX - 1));
        assert!(
            Door::new(Callers::default()).check(Request::new(())).is_err(),
            "who is not known"
        );
        assert!(mesh_alone(&Request::new(()), "no").is_err());
    }
}
