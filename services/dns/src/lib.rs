//! The local DNS server: answers this host's programs, each by its own rules, from a cache and encrypted upstreams.
//!
//! Start with [`judge`]: it is the story of a query.

pub mod attribution;
pub mod bus;
pub mod clients;
pub mod config;
pub mod figures;
pub mod filter;
pub mod front;
pub mod judge;
pub mod kept;
pub mod link;
pub mod listening;
pub mod lists;
pub mod log;
pub mod lookup;
pub mod memo;
pub mod names;
pub mod route;
pub mod rpc;
pub mod schedule;
pub mod server;
pub mod start;
pub mod trace;
pub mod tunnel;
pub mod upstream;
pub mod wire;

pub use start::{ABOUT, Args, run};
