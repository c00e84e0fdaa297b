//! The local DNS server: answers this host's programs, each by its own rules, from a cache and encrypted upstreams.
//!
//! Start with [`judge`]: it is the story of a query.

pub mod attribution;
pub mod clients;
pub mod config;
pub mod filter;
pub mod judge;
pub mod link;
pub mod log;
pub mod lookup;
pub mod names;
pub mod own;
pub mod route;
pub mod server;
pub mod upstream;
pub mod wire;
