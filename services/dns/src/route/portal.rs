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
}

impl Portal {
    /// Nothing is suspected; with `enabled` false nothing ever is.
    pub fn new(enabled: bool) -> Self {
        Self {
            enabled,
            suspected: false,
            by_owner: None,
        }
    }

    /// What is open now.
    pub fn opening(&self) -> Opening {
        match (self.by_owner, self.suspected) {
            (Some(_), _) => Opening::Everything,
            (None, true) => Opening::Checks,
            (None, false) => Opening::Closed,
        }
    }

    /// Takes a look; gives back what is open if that changed.
    pub fn update(
        &mut self,
        now: Duration,
        encrypted_down: bool,
        connectivity: Connectivity,
    ) -> Option<Opening> {
        let before = self.opening();
        let reachable = !matches!(connectivity, Connectivity::Full | Connectivity::None);
        self.suspected = self.enabled && encrypted_down && reachable;
        self.by_owner = self.by_owner.filter(|until| now < *until);
        let after = self.opening();
        (after != before).then_some(after)
    }

    /// The owner lets everything be asked at the network's own servers, until then.
    pub fn open_by_owner(&mut self, until: Duration) {
        self.by_owner = Some(until);
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
        assert_eq!(portal.opening(), Opening::Closed);
    }

    #[test]
    fn what_the_owner_opens_closes_by_itself() {
        let mut portal = Portal::new(true);
        portal.open_by_owner(NOW + Duration::from_secs(300));
        assert_eq!(portal.opening(), Opening::Everything);
        assert_eq!(portal.update(NOW, true, Connectivity::Portal), None);
        assert_eq!(
            portal.update(NOW + Duration::from_secs(300), false, Connectivity::Full),
            Some(Opening::Closed)
        );
    }
}
