//! The map of a Gate17 network as its holders keep it, the entry and the nodes: [`Maps`] reads it from files and takes what
//! is offered, verifies it, and keeps it over restarts; [`Web`] fetches it from web servers, when [`due`] says so. [`begun`] and
//! [`padded`] are what both have their connections go through.

pub mod begun;
pub mod due;
mod keeper;
pub mod padded;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod watched;
mod web;

pub use keeper::{Maps, NoMap};
pub use web::{Web, check as check_url};
