//! The files that the owner writes: strict TOML, one per profile, and `global.toml`.
//!
//! Invariant: a file is taken whole or refused whole, and what is refused says where, what, and what to write instead.
//! What contradicts itself (a rule that could never match, `ask` as the answer to `ask`) is refused as well: an owner who
//! wrote it expects something of it.
//!
//! ```toml
//! # profiles.d/curl.toml: the file's name is the profile's id
//! name = "curl"                    # for people; the id where it is left out
//!
//! [[match]]                        # any of these; within one, all keys
//! path = "/usr/bin/curl"           # a glob where it has * ? or [; ** goes over folders
//! user = "alice"                   # or uid = 1000
//! # sha256, script, unit, cgroup (a glob), flatpak, snap, container; unknown = true stands alone
//!
//! [settings]                       # what is left out is inherited from global.toml, and that from the shipped one
//! default_action = "ask"           # allow, block, drop, ask, tunnel
//! ask_timeout_action = "block"
//! block_lan = true                 # block_incoming, block_internet, block_direct
//!
//! [tunnel]                         # how connections travel that are decided `tunnel`; inherited as [settings] is
//! hops = 3                         # 1 to 5
//! exit = ["de", "node:alpha"]      # regions and nodes; or "any", or "near"
//! isolate = "app"                  # or "site", "none": what never shares a circuit
//!
//! [[rule]]                         # curl#1; the first that matches decides
//! action = "allow"
//! direction = "out"                # or "in"; left out: both
//! protocol = ["tcp", "udp"]        # names or IANA numbers
//! remote = ["*.example.org", "example.net", "10.0.0.0/8", "10.1.0.1-10.1.0.9", "2001:db8::1", "lan"]
//! remote_port = [443, "8000-8999"] # local_port; icmp_type with protocol = "icmp" or "icmpv6"
//! user = "alice"
//! expires = 2027-01-31T18:00:00Z
//! note = "why"
//! ```
//!
//! `global.toml` has the same `[settings]`, `[tunnel]` and `[[rule]]`, and `redirect_dns`, `incoming_refusal`, `ask_timeout_seconds` and
//! `shipped_rules`: see [`SHIPPED_GLOBAL`](super::SHIPPED_GLOBAL).

mod icmp;
mod profile;
mod reader;
mod remote;
mod rule;
mod settings;
mod tunnel;

#[cfg(test)]
mod tests;

use super::{
    model::{Action, Global, Profile, Settings},
    tunnel::Tunnel,
};
use reader::{Reader, unknown_key};

/// The id of the file that holds the global settings and rules; no profile can be called so.
pub const GLOBAL: &str = "global";

/// Words that stand before the `#` of sources that are no profiles.
const RESERVED: [&str; 2] = [GLOBAL, SHIPPED];

/// What stands before the `#` of a shipped rule or setting.
const SHIPPED: &str = "shipped";

/// A file that cannot be taken. Printed as `path:line: problem; remedy`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}:{line}: {problem}; {remedy}")]
pub struct FileError {
    /// As the caller called the file.
    pub path: String,
    /// From 1 on.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// Reads a profile. `id` is the file's name without `.toml`; `path` is what messages call the file; `users` gives the uid
/// of a user name.
pub fn parse_profile(
    id: &str,
    path: &str,
    text: &str,
    users: &dyn Fn(&str) -> Option<u32>,
) -> Result<Profile, FileError> {
    let reader = Reader { path, text, users };
    check_id(id, &reader)?;
    profile::parse(id, &reader)
}

/// Reads the global settings and rules. Unless the file says `shipped_rules = false`, the shipped rules follow its own.
pub fn parse_global(
    path: &str,
    text: &str,
    users: &dyn Fn(&str) -> Option<u32>,
) -> Result<Global, FileError> {
    let (mut global, add_shipped) = global(GLOBAL, &Reader { path, text, users })?;
    if add_shipped {
        global.rules.extend(shipped_global()?.rules);
    }
    Ok(global)
}

/// The shipped defaults: what holds without a `global.toml`.
pub fn shipped_global() -> Result<Global, FileError> {
    let reader = Reader {
        path: "shipped global.toml",
        text: super::SHIPPED_GLOBAL,
        users: &|_| None,
    };
    global(SHIPPED, &reader).map(|(global, _)| global)
}

const GLOBAL_KEYS: [&str; 8] = [
    "settings",
    "tunnel",
    "rule",
    "redirect_dns",
    "encrypted_dns_resolvers",
    "incoming_refusal",
    "ask_timeout_seconds",
    "shipped_rules",
];

/// Longer than any prompt could stay of interest.
const LONGEST_PROMPT: i64 = 3600;

/// The second is true where the shipped rules are to follow.
fn global(id: &str, reader: &Reader<'_>) -> Result<(Global, bool), FileError> {
    let mut global = Global {
        settings: Settings::default(),
        rules: Vec::new(),
        // what stands in the shipped file holds until the owner's says otherwise
        redirect_dns: true,
        encrypted_dns_resolvers: Vec::new(),
        incoming_refusal: Action::Drop,
        ask_timeout_seconds: 60,
    };
    let mut add_shipped = true;
    let mut tunnel = Tunnel::default();
    let document = reader.document()?;
    for (key, value) in document.get_ref() {
        match key.get_ref().as_ref() {
            "settings" => global.settings = settings::parse(value, reader)?,
            "tunnel" => tunnel = tunnel::parse(value, reader)?,
            "rule" => global.rules = rule::parse_all(id, value, reader)?,
            "redirect_dns" => global.redirect_dns = reader.boolean(key, value)?,
            "encrypted_dns_resolvers" => {
                global.encrypted_dns_resolvers = settings::resolvers(key, value, reader)?;
            }
            "shipped_rules" => add_shipped = reader.boolean(key, value)?,
            "incoming_refusal" => {
                global.incoming_refusal = match reader.string(key, value)? {
                    "drop" => Action::Drop,
                    "block" => Action::Block,
                    other => {
                        let problem = format!("incoming_refusal = {other:?}");
                        let remedy = "write \"drop\" (silent) or \"block\" (answered with an error)";
                        return Err(reader.error(value.span(), problem, remedy));
                    }
                }
            }
            "ask_timeout_seconds" => {
                let seconds = reader.integer(key, value, 1..=LONGEST_PROMPT)?;
                global.ask_timeout_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
            }
            _ => return Err(unknown_key(reader, key, "global.toml", &GLOBAL_KEYS)),
        }
    }
    global.settings.tunnel = tunnel;
    Ok((global, add_shipped))
}

/// Ids stand in sources (`id#2`), logs and events.
fn check_id(id: &str, reader: &Reader<'_>) -> Result<(), FileError> {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"._-+@".contains(&octet);
    let problem = if RESERVED.contains(&id) {
        format!("the name {id:?} is reserved")
    } else if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.bytes().all(fits) {
        format!("{id:?} is no name for a profile")
    } else {
        return Ok(());
    };
    let remedy =
        "call the file by letters, digits, '.', '_', '-', '+' and '@', at most 128, not beginning with '.'";
    Err(reader.error(0..0, problem, remedy))
}
