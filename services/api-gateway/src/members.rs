//! What a user may by who he is: read from the files of users once in a while, not for each call.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use api::v1::Access;
use daemon::users;

/// Members may read.
const GROUP: &str = "portmaster";
/// Who left the group is out after this, as at the doors of the other services.
const REMEMBERED: Duration = Duration::from_secs(10);
const MOST_REMEMBERED: usize = 256;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Members(Mutex<HashMap<u32, (bool, Instant)>>);

impl Members {
    /// Root may all, the group may read; who is not known may least.
    pub fn level(&self, uid: Option<u32>) -> Access {
        match uid {
            Some(0) => Access::Admin,
            Some(uid) if self.is_member(uid) => Access::Read,
            _ => Access::Anybody,
        }
    }

    fn is_member(&self, uid: u32) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((is_member, since)) = known.get(&uid)
            && since.elapsed() < REMEMBERED
        {
            return *is_member;
        }
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        let is_member = users::is_member(uid, GROUP);
        known.insert(uid, (is_member, Instant::now()));
        is_member
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_known_may_least() {
        let members = Members::default();
        for _ in 0..2 {
            assert_eq!(members.level(None), Access::Anybody);
            assert_eq!(members.level(Some(0)), Access::Admin);
            assert_eq!(members.level(Some(u32::MAX - 1)), Access::Anybody);
        }
    }
}
