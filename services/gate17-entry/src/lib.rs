//! Where tunnelled connections enter: what the rules redirect to port 717 is carried through circuits of Gate17 nodes, for
//! this host only.
//!
//! Start with [`link`], which the interceptor announces connections to; [`tcp`] and [`udp`] take them in.

pub mod announced;
pub mod link;
pub mod listening;
pub mod redirected;
pub mod splice;
pub mod tcp;
pub mod udp;
pub mod wire;
