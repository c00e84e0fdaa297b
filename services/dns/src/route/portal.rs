//! Whether a captive portal is to be suspected. Pure: time is an argument.
//!
//! A portal breaks every encrypted upstream, and whoever looks for one (NetworkManager, a browser) needs the name of its
//! check resolved first. So the names of checks, and nothing else, are asked at the network's own servers while all
//! encrypted upstreams are down and nobody has found the network to be fully connected.

use std::time::Duration;

/// How far the network reaches, as NetworkManager finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// There is no network.
    None,
    /// A portal answers instead of the network.
    Portal,
    /// There is a network, and the check got no answer; also when its name was not resolved.
    Limited,
    /// All of the network.
    Full,
}

/// What the network's own servers are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// What the other routes say.
    Closed,
    /// The names of portal checks as well.
    Checks,
    /// Everything: the owner said so, for a time.
    Everything,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Portal {
    enabled: bool,
    suspected: bool,
    by_owner: Option<Duration>,
    /// As told last.
    told: Opening,
}

impl Portal {
    /// Nothing is suspected; with `enabled` false nothing ever is.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            suspected: false,
            by_owner: None,
            told: Opening::Closed,
        }
    }

    /// What is open at that time.
    pub fn opening(&self, now: Duration) -> Opening {
        match (self.left(now), self.suspected) {
            (Some(_), _) => Opening::Everything,
            (None, true) => Opening::Checks,
            (None, false) => Opening::Closed,
        }
    }

    /// For how long still everything is, where the owner said so.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        let left = self.by_owner?.checked_sub(now)?;
        (!left.is_zero()).then_some(left)
    }

    /// Takes a look; gives back what is open if that changed since the last one.
    pub fn update(
        &mut self,
        now: Duration,
        encrypted_down: bool,
        connectivity: Connectivity,
    ) -> Option<Opening> {
        let reachable = !matches!(connectivity, Connectivity::Full | Connectivity::None);
        self.suspected = self.enabled && encrypted_down && reachable;
        let after = self.opening(now);
        let before = std::mem::replace(&mut self.told, after);
        (after != before).then_some(after)
    }

    /// The owner lets everything be asked at the network's own servers, until then; not at all where that is over.
    pub fn open_by_owner(&mut self, now: Duration, until: Duration) {
        self.by_owner = Some(until).filter(|until| now < *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(7);

    #[test]
    fn suspicion_needs_both_and_ends_with_either() {
        for connectivity in [Connectivity::Portal, Connectivity::Limited, Connectivity::Unknown] {
            let mut portal = Portal::new(true);
            assert_eq!(portal.update(NOW, false, connectivity), None);
            assert_eq!(portal.update(NOW, true, connectivity), Some(Opening::Checks));
            assert_eq!(portal.update(NOW, true, connectivity), None, "told once");
            assert_eq!(portal.update(NOW, false, connectivity), Some(Opening::Closed));
            portal.update(NOW, true, connectivity);
            assert_eq!(
                portal.update(NOW, true, Connectivity::Full),
                Some(Opening::Closed)
            );
            portal.update(NOW, true, connectivity);
            assert_eq!(
                portal.update(NOW, true, Connectivity::None),
                Some(Opening::Closed)
            );
        }
    }

    #[test]
    fn who_wants_none_of_it_gets_none() {
        let mut portal = Portal::new(false);
        assert_eq!(portal.update(NOW, true, Connectivity::Portal), None);
        assert_eq!(portal.opening(NOW), Opening::Closed);
    }

    #[test]
    fn what_the_owner_opens_closes_by_itself_and_by_his_word() {
        let mut portal = Portal::new(true);
        let (then, soon) = (NOW + Duration::from_secs(300), NOW + Duration::from_secs(299));
        portal.open_by_owner(NOW, then);
        assert_eq!(portal.opening(NOW), Opening::Everything);
        assert_eq!(portal.left(soon), Some(Duration::from_secs(1)));
        assert_eq!(
            portal.update(NOW, true, Connectivity::Portal),
            Some(Opening::Everything)
        );
        assert_eq!(portal.update(soon, true, Connectivity::Portal), None);
        assert_eq!(
            portal.opening(then),
            Opening::Checks,
            "at that very moment, and without a look"
        );
        assert_eq!(
            portal.update(then, false, Connectivity::Full),
            Some(Opening::Closed)
        );
        portal.open_by_owner(NOW, then);
        portal.open_by_owner(NOW, NOW);
        assert_eq!((portal.opening(NOW), portal.left(NOW)), (Opening::Closed, None));
    }
}
