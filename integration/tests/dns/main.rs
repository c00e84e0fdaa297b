//! The local DNS server: every program's names, by its own rules.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests: what fails there fails the test"
)]

mod authority;
mod browser;
mod cached;
mod clock;
mod doq;
mod encrypted;
mod filtered;
mod flood;
mod judged;
mod million;
mod names;
mod network;
mod published;
mod served;
mod server;
mod signed;
mod special;
mod stage;
mod told;
mod upstreams;
