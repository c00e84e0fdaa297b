//! What Gate17 speaks, without IO, clock or randomness of its own: see `docs/gate17.md`.

pub mod access;
pub mod capsule;
#[cfg(test)]
mod corpus;
pub mod exit;
pub mod map;
pub mod opening;
pub mod padding;
pub mod path;
pub mod quote;
pub mod target;
pub mod trouble;
