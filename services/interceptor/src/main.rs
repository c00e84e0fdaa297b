//! The interceptor's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(interceptor::ABOUT, interceptor::run)
}
