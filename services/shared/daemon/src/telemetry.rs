//! Logs: to the journal where systemd reads our standard error, else to the terminal. Traces, metrics and logs: by OTLP, where
//! an endpoint is configured.
//!
//! What one packet triggers is TRACE; names and addresses are never above DEBUG; changes of state are INFO. Names, addresses,
//! paths and the words of log lines leave by OTLP only where the owner sets `PORTMASTER_EXPORT_NAMES=1`.

mod collector;
mod context;
mod export;
mod journal;
mod logs;
mod metrics;
mod spans;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::{About, CommonArgs, status::Status};
pub(crate) use context::span_of_call;
pub use context::{Traced, traced};
use export::Exporter;
pub use spans::{Span, Tracer, tracer};

/// Keeps what must live as long as the service. Dropped, it sends what still waits.
#[derive(Debug)]
pub struct Guard(Option<Exporter>);

impl Guard {
    /// Exports health and counters as metrics, where an endpoint is configured.
    pub fn watch(&mut self, status: &Status) {
        if let Some(exporter) = &mut self.0 {
            exporter.watch(status);
        }
    }
}

/// Crates that warn of what goes wrong with the names that were asked for; what it means we say ourselves, without names.
/// Who asks for them by name in the filter gets them.
const DISCREET: &str = "hickory_net=off,hickory_proto=off";

/// Once for a process.
pub fn init(about: About, args: &CommonArgs) -> anyhow::Result<Guard> {
    let filter = EnvFilter::try_new(format!("{DISCREET},{}", args.log))
        .with_context(|| format!("log filter {:?}", args.log))?;
    // a firewall starts, whoever is to hear of it
    let (exporter, failed) = match export::start(about).context("set up OTLP") {
        Ok(exporter) => (exporter, None),
        Err(error) => (None, Some(error)),
    };
    let spans = exporter.as_ref().map(Exporter::spans);
    let logs = exporter.as_ref().map(Exporter::logs);
    // a test that runs two services in one process keeps the first one's log
    let _ = tracing_subscriber::registry()
        .with(log(about).with_filter(filter))
        .with(spans)
        .with(logs)
        .try_init();
    if let Some(error) = failed {
        tracing::warn!("nothing is exported: {error:#}");
    }
    Ok(Guard(exporter))
}

fn log<S: Subscriber + for<'a> LookupSpan<'a>>(about: About) -> Box<dyn Layer<S> + Send + Sync> {
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    match journal {
        Some(journal) => {
            journal::Whole(journal.with_syslog_identifier(format!("portmaster-{}", about.name))).boxed()
        }
        None => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    }
}
