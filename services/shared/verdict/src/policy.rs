//! What the owner wants, as data, and the decision by it.
//!
//! Files become [`model`] values in [`mod@file`]; a [`Snapshot`](model::Snapshot) is indexed once as [`CompiledPolicy`] and
//! then decides any number of flows.
//!
//! # Which profile
//!
//! A matcher counts by its most telling key: SHA-256, then script, then path, then flatpak, snap, container or unit, then
//! the globs (path, cgroup), then the uid. The best matcher that matches wins; among equals the one with more keys, then
//! the profile whose id sorts first. A flow whose process is not known belongs to the profile that has a matcher
//! `unknown = true`. Where no profile matches, the global defaults hold alone: that also goes for unknown processes as
//! shipped, so that nothing breaks while processes are still being found.
//!
//! # Which verdict
//!
//! The first of these that matches decides:
//! 1. the profile's rules, 2. the global rules,
//! 3. the switches: `block_incoming` (from other hosts), `block_lan` (and multicast, which stays there),
//!    `block_internet`, `block_encrypted_dns` (DNS over TLS, HTTPS, QUIC to resolvers of others), `block_direct` (outgoing,
//!    internet, no name known),
//! 4. the default action.
//!
//! - A setting that a profile does not set is inherited from the global ones, and those from the shipped ones (source `shipped#…`).
//! - A refusal of an incoming connection by switch or default is made as `incoming_refusal` says; a rule that says `block`
//!   means `block`.
//! - `ask`: nobody can be asked yet, so the flow gets `ask_timeout_action`, with the rule or setting that asked as source.
//! - `tunnel` is for connections that go out. Localhost is never tunnelled: rules that say `tunnel` do not match there. As
//!   a default it is for the internet alone: localhost, the LAN and multicast cannot be reached through Gate17, and
//!   pass directly (`block_lan` refuses them). What cannot be tunnelled (neither TCP nor UDP, or incoming) is refused.
//! - While the owner has [paused](model::Pause) the firewall, what would be refused is allowed instead (`paused`), for
//!   each packet anew and never for good. What is to be tunnelled stays tunnelled, or refused where it cannot be: a pause
//!   sends nothing in the clear that the owner wants to be tunnelled.
//! - With `redirect_dns`, and while the local DNS server runs, a TCP or UDP flow to port 53 of another host is sent to that
//!   server instead, unless a rule refuses this very flow: switches and the default action are for the names that are asked
//!   there, since the flow itself never gets to that address.
//!
//! # Which names
//!
//! The DNS server asks the same policy, see [`CompiledPolicy::decide_name`] and [`CompiledPolicy::decide_address`].

mod compiled;
pub mod file;
pub mod model;
mod pause;
mod resolvers;
pub mod tunnel;

pub use compiled::{CompileError, CompiledPolicy, Explanation, Facts, NameDecision, NameFacts, ProfileRef};
pub use tunnel::TunnelOptions;

/// The shipped defaults as text: what holds where there is no `global.toml`, with a comment for every rule.
pub const SHIPPED_GLOBAL: &str = include_str!("policy/defaults/global.toml");

/// The shipped defaults as a policy: version 0, no profiles.
pub fn shipped() -> Result<model::Snapshot, file::FileError> {
    // Settings that nobody set are the shipped ones: left unset, their sources say so.
    let global = model::Global {
        settings: model::Settings::default(),
        ..file::shipped_global()?
    };
    Ok(model::Snapshot {
        version: 0,
        global,
        profiles: Vec::new(),
        pause: None,
    })
}
