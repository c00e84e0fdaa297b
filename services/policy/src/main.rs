//! The policy service's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(policy::ABOUT, policy::run)
}
