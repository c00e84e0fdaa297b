//! Answers which process a flow belongs to.
//!
//! A flow has a socket ([`netlink::diag`], [`tables`]), a socket has an inode and a cgroup ([`cgroups`]), some process holds it
//! ([`holders`]), and that process is read ([`details`]), named as the host names it ([`host`]) and remembered ([`known`]).
//! [`ladder`] puts these together.

pub mod cgroup;
pub mod cgroups;
pub mod config;
pub mod details;
pub mod directory;
pub mod hash;
pub mod holders;
pub mod host;
pub mod known;
pub mod ladder;
pub mod mounts;
pub mod paths;
pub mod probe;
pub mod rpc;
pub mod script;
pub mod start;
pub mod tables;

pub use start::{ABOUT, Args, run};
