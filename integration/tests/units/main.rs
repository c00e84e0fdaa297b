//! The real units, on a real systemd: one container for each test.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what fails there fails the test"
)]

mod boot;
