//! The firewall rules, in namespaces of their own, in both back ends: what a mark does to a packet, and that the rules
//! stay as they are. Marks are set from the queues by a decider that goes by port, so that nothing else is tested here.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests: what fails here fails the test"
)]

mod decider;
mod fates;
mod host;
mod measure;
mod redirects;
mod upkeep;
