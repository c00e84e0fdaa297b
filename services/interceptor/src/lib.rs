//! Sees packets in NFQUEUE, decides them from its copy of the policy, marks them.
//!
//! Start with [`judge`]: it is the story of a packet. [`plane`] is the thread that it runs on; everything else follows the
//! policy, keeps the rules in place, or tells of what happened.

pub mod ahead;
pub mod arrival;
pub mod bus;
pub mod closing;
pub mod commands;
pub mod config;
pub mod confine;
pub mod conntrack;
pub mod firewall;
pub mod handover;
pub mod hub;
pub mod journal;
pub mod judge;
pub mod kernel;
pub mod marks;
pub mod names;
pub mod nfqueue;
pub mod plane;
pub mod resolver;
pub mod rpc;
pub mod start;
pub mod stopped;
pub mod told;
pub mod traces;
pub mod tunnel;
pub mod wire;

pub use start::{ABOUT, Args, run};
