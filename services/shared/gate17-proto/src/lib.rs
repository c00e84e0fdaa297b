//! What Gate17 speaks, without IO, clock or randomness of its own: see `docs/gate17.md`.

pub mod map;
