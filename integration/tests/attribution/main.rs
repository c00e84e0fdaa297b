//! Which process a flow belongs to, asked of the real resolver about sockets of real programs.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what fails here fails the test"
)]

mod ask;
mod groups;
mod host;
mod identity;
mod play;
mod raw;
mod scripts;
mod sockets;
mod stream;
mod threads;
