//! `portmaster`, the command line: what happens, why, and what would happen.
//!
//! It asks the services over gRPC and holds no power of its own: everything that it shows, anybody in group `portmaster`
//! may ask for.

pub mod args;
mod check_host;
mod clock;
mod connections;
pub mod dns;
pub mod event_json;
mod explain;
mod files;
pub mod filter;
pub mod gate17;
mod host;
mod manual;
mod monitor;
mod output;
mod paint;
mod pause;
pub mod place;
mod printable;
mod rules;
mod status;
mod table;
pub mod token;
pub mod try_cmd;
pub mod up;
mod upgrade_check;
mod users;
mod wire;
mod words;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use args::{Cli, Command, RulesCommand};
use paint::Paint;

pub use event_json::EventJson;

/// Wrong usage, as in sysexits.h.
const USAGE: u8 = 64;

/// Parses the command line and does what it says; an error is printed here, once.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let result = runtime().and_then(|runtime| {
        let result = runtime.block_on(run(cli));
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| {
        eprintln!("portmaster: {}", printable::printable(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// Help and version are no mistakes.
fn usage(error: &clap::Error) -> ExitCode {
    let _closed_pipe = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")
}

async fn run(cli: Cli) -> Result<ExitCode> {
    let paint = Paint::for_stdout(cli.color);
    match cli.command {
        Command::Monitor(args) => monitor::run(args, paint).await,
        Command::Connections(args) => connections::run(args, paint).await,
        Command::Rules(RulesCommand::Check(args)) => rules::check(&args),
        Command::Rules(RulesCommand::Default) => rules::shipped(),
        Command::Explain(args) => explain::run(args, paint).await,
        Command::Dns(command) => dns::run(command, paint).await,
        Command::Gate17(command) => gate17::run(command, paint).await,
        Command::Token(command) => token::run(command, paint).await,
        Command::Status(args) => status::run(args, paint).await,
        Command::Pause(args) => pause::pause(args).await,
        Command::Resume(args) => pause::resume(args).await,
        Command::Start(args) => host::start(&args).await,
        Command::Confirm => host::confirm().await,
        Command::Stop => host::stop().await,
        Command::CheckHost(args) => check_host::run(args, paint).await,
        Command::UpgradeCheck(args) => upgrade_check::run(args).await,
        Command::Try(args) => try_cmd::run(args).await,
        Command::Up(args) => up::run(args).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    }
}
