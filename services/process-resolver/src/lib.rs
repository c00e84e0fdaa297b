//! Answers which process a flow belongs to.
//!
//! A flow has a socket ([`diag`], [`tables`]), a socket has an inode, some process holds it ([`holders`]), and that process
//! is read ([`details`]) and remembered ([`known`]). [`ladder`] puts these together.

pub mod cgroup;
pub mod config;
pub mod details;
pub mod diag;
pub mod hash;
pub mod holders;
pub mod known;
pub mod ladder;
pub mod mounts;
pub mod rpc;
pub mod script;
pub mod start;
pub mod tables;
pub mod young;

pub use start::{ABOUT, Args, run};
