//! The DNS service's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main(dns::ABOUT, dns::run)
}
