//! The one door for other people's programs.
//!
//! A connection comes in by [`door`], which finds out whose it is ([`caller`]); each call passes [`gate`] (may he?) and is gRPC,
//! gRPC-web or JSON ([`json`]) of the same methods ([`rpc`]), which ask the services behind. What changes all the time is
//! followed once, for all who watch ([`hub`]).

pub mod audit;
pub mod caller;
pub mod config;
pub mod door;
pub mod fields;
pub mod gate;
pub mod hub;
pub mod json;
pub mod lasting;
pub mod limits;
pub mod listening;
pub mod mask;
pub mod members;
pub mod methods;
pub mod metrics;
pub mod open_api;
pub mod page;
pub mod rpc;
pub mod slow;
mod start;
pub mod tokens;
pub mod web;
pub mod wire;

pub use start::{ABOUT, Args, run};
