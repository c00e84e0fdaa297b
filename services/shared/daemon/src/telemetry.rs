//! Logs: to the journal where systemd reads our standard error, else to the terminal.
//!
//! What one packet triggers is TRACE; names and addresses are never above DEBUG; changes of state are INFO.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{About, CommonArgs};

/// Keeps what must live as long as the service.
#[derive(Debug)]
pub struct Guard;

/// Once for a process.
pub fn init(about: About, args: &CommonArgs) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("log filter {:?}", args.log))?;
    let terminal = || {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed()
    };
    let layer = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => tracing_journald::layer().map_or_else(
            |_| terminal(),
            |journal| {
                journal
                    .with_syslog_identifier(format!("portmaster-{}", about.name))
                    .boxed()
            },
        ),
        None => terminal(),
    };
    // a test that runs two services in one process keeps the first one's log
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    Ok(Guard)
}
