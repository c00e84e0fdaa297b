//! `portmaster try`: the whole product in network namespaces of its own, without touching the rest of the machine.
//!
//! Without a command it is the tour. What it makes is taken away by a janitor process, whose only signal is that we
//! are gone: after a normal end, Ctrl-C and SIGKILL alike.

mod guest;
mod janitor;
mod log;
mod network;
mod playground;
mod shell;
mod tour;
mod uplink;
mod world;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};

use world::World;

/// `portmaster try`
#[derive(Clone, Debug, clap::Args)]
pub struct TryArgs {
    /// Name of this world: its namespaces are portmaster-NAME and portmaster-NAME-… [default: process id]
    #[arg(long)]
    pub name: Option<String>,
    /// Configuration, laid out like /etc/portmaster
    #[arg(long, value_name = "DIR", requires = "command")]
    pub config: Option<PathBuf>,
    /// Write each event to FILE, one JSON object per line
    #[arg(long, value_name = "FILE", requires = "command")]
    pub events: Option<PathBuf>,
    /// Run COMMAND as this user
    #[arg(long, requires = "command")]
    pub user: Option<String>,
    /// Connect to the outside (by pasta), instead of to a playground internet
    #[arg(long, requires = "command")]
    pub uplink: bool,
    /// With a Gate17 network of five nodes: a tour of the tunnel, or COMMAND with all that it connects to sent through it
    #[arg(long, conflicts_with_all = ["uplink", "config"])]
    pub gate17: bool,
    /// Take away what a world left; started by `portmaster try` itself
    #[arg(long, hide = true, conflicts_with_all = ["command", "name"])]
    pub janitor: Option<String>,
    /// What to run behind the firewall [default: a tour]
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Runs the tour or the command.
///
/// # Errors
/// Where the world cannot be made: without root, without the programs that it needs, with a name that is taken.
pub async fn run(args: TryArgs) -> Result<ExitCode> {
    if let Some(name) = &args.janitor {
        janitor::sweep_when_alone(name);
        return Ok(ExitCode::SUCCESS);
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "making a network namespace needs root: run it with sudo (it touches nothing outside its own namespaces)"
        );
    }
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| std::process::id().to_string());
    if args.command.is_empty() {
        if args.gate17 {
            let world = World::make(&name, Some(tour::tunnel_config), world::Outside::Network).await?;
            return tour::run(world, tour::Play::Tunnel).await;
        }
        let world = World::make(&name, Some(tour::config), world::Outside::Playground).await?;
        return tour::run(world, tour::Play::Firewall).await;
    }
    guest::run(&name, &args).await
}
