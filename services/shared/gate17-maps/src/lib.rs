//! The map of a Gate17 network as its holders keep it, the entry and the nodes: [`Maps`] reads it from files and takes what
//! is offered, verifies it, and keeps it over restarts; [`Web`] fetches it from web servers, when [`due`] says so.

pub mod due;
mod keeper;
#[cfg(test)]
mod testing;
mod watched;
mod web;

pub use keeper::{Maps, NoMap};
pub use web::{Web, check as check_url};
