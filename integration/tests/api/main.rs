//! The API on 127.0.0.1:817: who may call, in which form, and what is told.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what fails there fails the test"
)]

mod callers;
mod changes;
mod crowd;
mod examples;
mod forms;
mod frames;
mod hostile;
mod line;
mod page;
mod schema;
mod served;
mod slow;
mod stage;
mod strangers;
mod told;
