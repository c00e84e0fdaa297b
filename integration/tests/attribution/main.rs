//! Which process a flow belongs to, asked of the real resolver about sockets of real programs.

mod ask;
mod identity;
mod play;
mod sockets;
mod stream;
