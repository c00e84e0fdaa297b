//! A Gate17 node among strangers: who only looks at it sees nginx, and who means harm harms nobody else.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "whatever fails here fails the test"
)]
#![expect(dead_code, reason = "the place and the client are those of another test")]

mod begun;
#[path = "../gate17_node/client.rs"]
mod client;
mod harm;
#[path = "../gate17_node/place.rs"]
mod place;
mod probed;
