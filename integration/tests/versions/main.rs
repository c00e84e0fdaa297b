//! Two versions side by side: what `integration/previous-version` names, among what is built here. `scripts/previous` builds
//! it; without the history of the repository (a source archive) nothing is compared, and each test says so.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

mod bus;
mod contracts;
mod previous;
mod services;
