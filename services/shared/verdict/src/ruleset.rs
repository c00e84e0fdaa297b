//! The firewall's rules as values, and their text for `iptables-restore`.
//!
//! Invariant: what stands here is the whole of what the product puts into the kernel. [`RuleSet::new`] builds it from
//! [`Options`], [`render()`] and [`render_install`] write it, [`verify`] compares it with what `iptables-save` reads
//! back, [`render_removal`] takes it away again. Nothing here knows a back end: nft and legacy read and write the same
//! text.

mod build;
mod canonical;
mod deviation;
mod render;
mod rule;
mod saved;

pub use build::{Local, Options, RejectTcpWith, RuleSet};
pub use deviation::{Deviation, verify};
pub use render::{render, render_install, render_removal};
pub use rule::{Chain, ChainName, MarkTest, Match, RejectWith, Rule, Table, TableName, Target, Transport};
pub use saved::{Saved, SavedChain, SavedRule, SavedTable};

use std::fmt;

use crate::packet::Hook;

/// The two rule sets: the kernel keeps them apart, down to the program that loads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, `iptables`.
    V4,
    /// IPv6, `ip6tables`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The queue that packets of this way and family wait in: `17`, direction (`0` out, `1` in), family (`4`, `6`),
/// `0` for the first queue of its kind.
pub const fn queue_number(hook: Hook, family: Family) -> u16 {
    17_000
        + match hook {
            Hook::Output => 0,
            Hook::Input => 100,
        }
        + match family {
            Family::V4 => 40,
            Family::V6 => 60,
        }
}

#[cfg(test)]
mod tests;
