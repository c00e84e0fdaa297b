//! The process-resolver's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(process_resolver::ABOUT, process_resolver::run)
}
