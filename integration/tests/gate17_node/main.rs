//! A Gate17 node as others meet it: it carries for who may, and is a web server to everybody else.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "whatever fails here fails the test"
)]

mod carried;
mod client;
mod container_files;
mod curl;
mod discreet;
mod image;
mod limits;
mod maps;
mod mesh_image;
mod place;
mod quotes;
mod seen;
mod speed;
