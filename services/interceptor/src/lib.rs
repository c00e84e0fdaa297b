//! Sees packets in NFQUEUE, decides them from its copy of the policy, marks them.

pub mod conntrack;
pub mod nfqueue;
