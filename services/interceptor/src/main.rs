//! The interceptor's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main_unless(
        interceptor::ABOUT,
        interceptor::Args::are_indispensable,
        interceptor::run,
    )
}
