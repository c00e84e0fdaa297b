//! Boots a host with the product, runs a shell script in it as root, and ends it: for looking at the units by hand.
//!
//! `cargo run -p integration --bin booted-host -- 'systemctl status portmaster.target'`; without a script, a shell.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, process::ExitCode};

use integration::Booted;

fn main() -> ExitCode {
    let host = Booted::builder("byhand").with_repository().start();
    let script = env::args().nth(1);
    let mut command = host.command("sh");
    match &script {
        Some(script) => command.args(["-c", script]),
        None => command.arg("-i"),
    };
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            println!("ended with {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("start nsenter: {error}");
            ExitCode::FAILURE
        }
    }
}
