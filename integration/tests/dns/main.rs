//! The local DNS server: every program's names, by its own rules.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what fails there fails the test"
)]

mod authority;
mod encrypted;
mod filtered;
mod flood;
mod names;
mod served;
mod server;
mod signed;
mod stage;
mod upstreams;
