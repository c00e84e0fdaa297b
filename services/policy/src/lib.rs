//! The only writer of what the owner wants: reads `profiles.d`, makes versioned snapshots, and hands them to whoever
//! follows.
//!
//! Files become entries of a `book::Book`, which keeps the last good content of each. The `keeper` rereads it
//! when something changes, and puts what it says in force. Nothing here is on the path of a packet: followers decide from
//! their own copies.

mod book;
mod bus;
mod change;
mod config;
mod edit;
mod entry;
mod explain;
mod in_force;
mod keeper;
mod kept;
mod links;
mod lockout;
mod owned;
mod pause;
mod rpc;
mod start;
mod switches;
mod watcher;

pub use start::{ABOUT, Args, run};
