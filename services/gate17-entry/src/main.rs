//! The Gate17 entry's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(gate17_entry::ABOUT, gate17_entry::run)
}
