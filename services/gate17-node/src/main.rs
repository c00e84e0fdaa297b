//! The binary of gate17-node.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(gate17_node::ABOUT, gate17_node::run)
}
