//! A node of Gate17 that anyone can run: `CONNECT` over TLS, and to everybody else an ordinary web server.
//!
//! [`run`] binds; each thread of [`door`] accepts, sees by the first octets what a caller speaks, and hands it to
//! [`tunnel`] (HTTP/2), [`web`] (HTTP/1.1) or [`quotes`]. [`dial`] is the one place that connections to others are made.

pub mod access;
pub mod config;
pub mod datagrams;
pub mod dial;
pub mod dns_query;
pub mod door;
pub mod greeting;
pub mod handover;
pub mod http1;
pub mod identity;
pub mod known;
pub mod limits;
pub mod listening;
pub mod metrics;
pub mod node;
pub mod page;
pub mod proof;
pub mod quotes;
pub mod rates;
pub mod relay;
pub mod served;
pub mod speed;
mod start;
pub mod stream;
pub mod tunnel;
pub mod upstream;
pub mod web;

pub use start::{ABOUT, Args, run};
