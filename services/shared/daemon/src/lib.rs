//! What every main needs once: config, sockets, gRPC over Unix sockets, telemetry, readiness.
//!
//! A service is `run(Context) -> Result<()>` in its library; its `main.rs` is [`main`]. Tests, systemd and a developer
//! start the same code.

mod args;
pub mod bus;
pub mod capabilities;
pub mod clock;
mod config;
pub mod files;
pub mod grpc;
pub mod metrics;
pub mod open_metrics;
mod paths;
pub mod peer;
pub mod policies;
mod priority;
pub mod ready;
pub mod socket_owner;
pub mod status;
pub mod systemd;
pub mod telemetry;
pub mod users;

use std::{
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use args::CommonArgs;
pub use config::{ConfigError, Settings, Unfit, load as load_config};
pub use grpc::Callers;
pub use paths::Paths;
use status::Status;

/// What a service is.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// `interceptor`, `process-resolver`, …
    pub name: &'static str,
    /// Of the binary.
    pub version: &'static str,
}

/// What `run` gets.
#[derive(Debug)]
pub struct Context<C, A> {
    /// What this service is.
    pub about: About,
    /// Its own arguments.
    pub args: A,
    /// Its configuration.
    pub config: C,
    /// Where things lie.
    pub paths: Paths,
    /// What it says about itself.
    pub status: Status,
    /// Cancelled by SIGTERM and SIGINT.
    pub shutdown: CancellationToken,
}

#[derive(Debug, Parser)]
struct Line<A: Args> {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    own: A,
}

/// Usage and configuration (`sysexits.h`, `EX_USAGE`).
const USAGE: u8 = 64;

/// The same for all services: arguments, configuration, logs, signals; errors are printed once, here.
pub fn main<C, A, F, R>(about: About, run: F) -> ExitCode
where
    C: Settings,
    A: Args,
    F: FnOnce(Context<C, A>) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    main_unless(about, |_| false, run)
}

/// As [`main`]. Where `indispensable` says so of the arguments, a broken configuration is complained of and the defaults
/// are used: for what must be done on every host, whatever its owner wrote.
pub fn main_unless<C, A, F, R>(about: About, indispensable: fn(&A) -> bool, run: F) -> ExitCode
where
    C: Settings,
    A: Args,
    F: FnOnce(Context<C, A>) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let Line { common, own } = match parse::<A>(about) {
        Ok(line) => line,
        Err(error) => {
            // nothing can be done about a closed terminal
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let paths = Paths::new(&common, about.name);
    let config = match config::load::<C>(&paths.config, about.name) {
        Ok(config) => config,
        Err(error) => {
            let refused = complain(about, &error.into(), USAGE);
            if common.check_config || !indispensable(&own) {
                return refused;
            }
            C::default()
        }
    };
    if common.check_config {
        return ExitCode::SUCCESS;
    }
    match start(about, &common, own, config, paths, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(about, &error, 1),
    }
}

fn parse<A: Args>(about: About) -> Result<Line<A>, clap::Error> {
    let command = Line::<A>::command()
        .name(format!("portmaster-{}", about.name))
        .version(about.version);
    Line::from_arg_matches(&command.try_get_matches()?)
}

fn complain(about: About, error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "portmaster-{}: {error:#}", about.name);
    ExitCode::from(code)
}

fn start<C, A, F, R>(
    about: About,
    common: &CommonArgs,
    args: A,
    config: C,
    paths: Paths,
    run: F,
) -> anyhow::Result<()>
where
    F: FnOnce(Context<C, A>) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut telemetry = telemetry::init(about, common)?;
        tokio::spawn(priority::hold());
        let shutdown = CancellationToken::new();
        let status = Status::new(about);
        telemetry.watch(&status);
        let context = Context {
            about,
            args,
            config,
            paths,
            status,
            shutdown: shutdown.clone(),
        };
        // first: who is ready can be told to stop
        let signals = Signals::new()?;
        let ran = tokio::select! {
            ran = run(context) => ran,
            stopped = signals.stop(&shutdown) => stopped,
        };
        ready::stopping();
        ran
    })
}

/// SIGTERM and SIGINT, from when it is made.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Never ends before the service does, unless that does not stop in time.
    async fn stop(mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        shutdown.cancel();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        anyhow::bail!("did not stop within 5 s of the signal")
    }
}
