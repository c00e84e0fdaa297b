//! The API gateway's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(api_gateway::ABOUT, api_gateway::run)
}
