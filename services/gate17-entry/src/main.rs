//! The binary of gate17-entry.

fn main() {}
