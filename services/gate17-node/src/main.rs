//! The binary of gate17-node.

fn main() {}
