//! Settings with everything inherited filled in, and where each came from.

use crate::{
    Source,
    policy::{
        model::{Action, Settings},
        tunnel::TunnelOptions,
    },
};

/// Stands for every category of lists.
pub(super) const ALL_LISTS: &str = "*";

/// A value, and the `file#setting` that set it.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

#[derive(Clone, Debug)]
pub(super) struct Effective {
    pub(super) default_action: Set<Action>,
    pub(super) ask_timeout_action: Set<Action>,
    pub(super) block_incoming: Set<bool>,
    pub(super) block_lan: Set<bool>,
    pub(super) block_internet: Set<bool>,
    pub(super) block_direct: Set<bool>,
    pub(super) block_encrypted_dns: Set<bool>,
    pub(super) block_lists: Set<Vec<String>>,
    pub(super) tunnel: TunnelOptions,
}

impl Effective {
    /// The global settings over the shipped ones.
    pub(super) fn global(settings: &Settings) -> Self {
        Self::shipped().overridden("global", settings)
    }

    /// Of connections that no rule decides, or nobody answers for.
    pub(super) fn may_tunnel(&self) -> bool {
        [&self.default_action, &self.ask_timeout_action]
            .iter()
            .any(|set| set.value == Action::Tunnel)
    }

    /// What `file` sets replaces what is here.
    pub(super) fn overridden(&self, file: &str, settings: &Settings) -> Self {
        Self {
            default_action: self
                .default_action
                .or(file, settings.default_action, "default_action"),
            ask_timeout_action: self.ask_timeout_action.or(
                file,
                settings.ask_timeout_action,
                "ask_timeout_action",
            ),
            block_incoming: self
                .block_incoming
                .or(file, settings.block_incoming, "block_incoming"),
            block_lan: self.block_lan.or(file, settings.block_lan, "block_lan"),
            block_internet: self
                .block_internet
                .or(file, settings.block_internet, "block_internet"),
            block_direct: self.block_direct.or(file, settings.block_direct, "block_direct"),
            block_encrypted_dns: self.block_encrypted_dns.or(
                file,
                settings.block_encrypted_dns,
                "block_encrypted_dns",
            ),
            block_lists: self
                .block_lists
                .or(file, settings.block_lists.clone(), "block_lists"),
            tunnel: self.tunnel.overridden(&settings.tunnel),
        }
    }

    /// As in the shipped `global.toml`; a test compares them.
    fn shipped() -> Self {
        Self {
            default_action: Set::shipped(Action::Allow, "default_action"),
            ask_timeout_action: Set::shipped(Action::Block, "ask_timeout_action"),
            block_incoming: Set::shipped(true, "block_incoming"),
            block_lan: Set::shipped(false, "block_lan"),
            block_internet: Set::shipped(false, "block_internet"),
            block_direct: Set::shipped(false, "block_direct"),
            block_encrypted_dns: Set::shipped(false, "block_encrypted_dns"),
            block_lists: Set::shipped(vec![ALL_LISTS.to_owned()], "block_lists"),
            tunnel: TunnelOptions::default(),
        }
    }
}

impl<T: Clone> Set<T> {
    fn shipped(value: T, name: &str) -> Self {
        Self {
            value,
            source: format!("shipped#{name}").into(),
        }
    }

    fn or(&self, file: &str, value: Option<T>, name: &str) -> Self {
        let set = |value| Self {
            value,
            source: format!("{file}#{name}").into(),
        };
        value.map_or_else(|| self.clone(), set)
    }
}
