//! The route of the last resort for IPv6 (`ipv6_route`): without any, the kernel refuses a program's connection before
//! anybody is asked, and what is to be tunnelled has no way in.

use netlink::last_resort;

use super::{Firewall, Problem, apply::has_ipv6};

/// It is not as the setting says. Over when the service starts anew.
const CODE: &str = "ipv6-route";

impl Firewall {
    /// As the setting says, once the rules stand that refuse whoever is not tunnelled; gives what went wrong.
    pub(super) fn set_route(&self) -> Option<Problem> {
        let (done, what) = if self.ipv6_route {
            (
                last_resort::add(),
                "IPv6 does not reach the tunnel on a host without IPv6",
            )
        } else {
            // of an earlier setting
            (
                last_resort::remove(),
                "IPv6 that has no route is sent to this host itself",
            )
        };
        let text = format!("{what}: {}", chain(&done.err()?));
        Some(Problem { code: CODE, text })
    }

    /// Whoever manages the network may have taken it away.
    pub(super) fn keep_route(&self) {
        if !self.ipv6_route || !has_ipv6() {
            return;
        }
        match last_resort::add() {
            Ok(true) => tracing::info!("the route of the last resort for IPv6 was gone, and is there again"),
            Ok(false) => {}
            Err(error) => tracing::debug!(error = %chain(&error), "no route of the last resort for IPv6"),
        }
    }
}

/// Takes it away, whoever put it there; what went wrong in words.
pub(super) fn remove() -> Result<(), String> {
    if !has_ipv6() {
        return Ok(());
    }
    last_resort::remove()
        .map(drop)
        .map_err(|error| format!("the route of the last resort for IPv6: {}", chain(&error)))
}

fn chain(error: &netlink::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
