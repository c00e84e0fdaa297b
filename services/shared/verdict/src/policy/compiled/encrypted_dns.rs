//! DNS that this host's server does not see: over TLS, HTTPS or QUIC to a resolver of somebody else's.

use super::{Compiled, CompiledPolicy, Facts, ProfileRef};
use crate::{Direction, Protocol, Scope, Source};

/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250): registered for nothing else.
const ENCRYPTED_DNS: u16 = 853;
/// Where resolvers speak DNS over HTTPS, and older DNS over QUIC; but so does everybody else.
const SHARED: [u16; 2] = [443, 8853];

impl CompiledPolicy {
    /// Whether a flow carries encrypted DNS, as far as port, address and names tell.
    pub(super) fn is_encrypted_dns(&self, facts: &Facts<'_>) -> bool {
        let remote = facts.flow.remote;
        let is_theirs = || {
            self.resolvers.has_address(remote.address)
                || facts.domains.iter().any(|name| self.resolvers.has_name(name))
        };
        can_be(facts) && (remote.port == ENCRYPTED_DNS || is_theirs())
    }

    /// Whether a profile refuses encrypted DNS: then its programs are also told so by the names that conventions have for it.
    pub fn blocks_encrypted_dns(&self, profile: ProfileRef) -> bool {
        self.compiled(profile).settings.block_encrypted_dns.value
    }

    /// The `file#setting` by which a profile refuses a name of a resolver that speaks encrypted DNS; `None` for other names,
    /// and where it does not.
    pub fn blocks_resolver(&self, profile: ProfileRef, name: &str) -> Option<Source> {
        let switch = &self.compiled(profile).settings.block_encrypted_dns;
        (switch.value && self.resolvers.has_name(name)).then(|| switch.source.clone())
    }
}

impl Compiled {
    /// Whether a name could show that a flow without one carries encrypted DNS, where that is refused.
    pub(super) fn may_hide_encrypted_dns(&self, facts: &Facts<'_>) -> bool {
        self.settings.block_encrypted_dns.value && can_be(facts)
    }
}

/// By direction, protocol and port it may be.
fn can_be(facts: &Facts<'_>) -> bool {
    let flow = &facts.flow;
    flow.direction == Direction::Outgoing
        && matches!(flow.protocol, Protocol::TCP | Protocol::UDP)
        && facts.scope != Scope::Localhost
        && (flow.remote.port == ENCRYPTED_DNS || SHARED.contains(&flow.remote.port))
}
