//! The local DNS server: answers this host's programs, each by its own rules, from a cache and encrypted upstreams.

pub mod attribution;
pub mod clients;
pub mod filter;
pub mod link;
pub mod upstream;

pub mod log;
pub mod wire;
