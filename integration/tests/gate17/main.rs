//! Gate17, on this host and beyond: what is tunnelled is carried, and nothing of it leaves in the clear.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "whatever fails here fails the test"
)]

mod carried;
mod chatter;
mod circuits;
mod datagrams;
mod everything;
mod families;
mod hostile;
mod leaks;
mod maps;
mod names;
mod network;
mod owner;
mod padded;
mod rogue;
mod second;
mod stand_in;
mod steady;
mod strangers;
mod told;
mod unsure;
mod v4_only;
