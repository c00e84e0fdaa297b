//! Where tunnelled connections enter: what the rules redirect to port 717 is carried through circuits of Gate17 nodes, for
//! this host only.
//!
//! Start with [`link`], which the interceptor announces connections to; [`tcp`] and [`udp`] take them in.

pub mod announced;
pub mod asked;
pub mod blame;
pub mod bus;
pub mod circuit;
pub mod circuits;
pub mod config;
pub mod figures;
pub mod guards;
pub mod health;
pub mod history;
pub mod link;
pub mod listening;
pub mod map_keeper;
pub mod measure;
pub mod near;
pub mod opening;
pub mod pinned;
pub mod race;
pub mod redirected;
pub mod refusal;
pub mod rpc;
pub mod splice;
pub mod start;
pub mod suspects;
pub mod tcp;
pub mod told;
pub mod tunnel;
pub mod udp;
pub mod wire;

pub use start::{ABOUT, Args, run};
