//! OTLP over gRPC, configured by the variables that OpenTelemetry names (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).
//!
//! It has a thread and a runtime of its own: a collector that hangs holds up nobody, and what waits is bounded.

use std::{env, sync::mpsc, thread, time::Duration};

use anyhow::Context as _;
use opentelemetry::{KeyValue, global, logs::LoggerProvider as _, trace::TracerProvider as _};
use opentelemetry_otlp::{LogExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

use super::{collector::Collector, logs::Logs, metrics::Metrics, spans};
use crate::{About, status::Status};

/// One of them switches it on.
const ENDPOINTS: [&str; 4] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
];
/// What the exporter itself is made of: its spans would beget spans. And hickory, whose warnings name names.
const OWN: [&str; 8] = [
    "h2",
    "hickory_net",
    "hickory_proto",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "tonic",
    "tower",
];

/// The service's end waits no longer than this for a collector.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Traces and metrics on their way out.
#[derive(Debug)]
pub(super) struct Exporter {
    traces: SdkTracerProvider,
    metrics: Metrics,
    metrics_end: CancellationToken,
    logs: SdkLoggerProvider,
    tracer: SdkTracer,
    runtime: Handle,
    /// Ends when the last figures are sent.
    sent: Option<JoinHandle<()>>,
    /// The owner lets names, addresses and paths leave.
    names: bool,
    _runtime: DropGuard,
}

/// `None` where no endpoint is configured.
pub(super) fn start(about: About) -> anyhow::Result<Option<Exporter>> {
    let set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let disabled = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    if disabled || !ENDPOINTS.iter().any(set) {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let resource = Resource::builder()
        .with_service_name(format!("portmaster-{}", about.name))
        .with_attribute(KeyValue::new("service.version", about.version))
        .build();
    let collector = Collector::default();
    let exporters = {
        // connections belong to the runtime that they are made in
        let _inside = runtime.enter();
        exporters(&resource, &collector)
    };
    let (spans, metrics, logs) = match exporters {
        Ok(exporters) => exporters,
        Err(error) => {
            // it must not be waited for where everything else runs
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let handle = runtime.handle().clone();
    let end = CancellationToken::new();
    let ended = end.clone();
    thread::Builder::new()
        .name("telemetry".into())
        .spawn(move || runtime.block_on(ended.cancelled()))?;
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(collector.of(spans))
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(collector.of(logs))
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    let names = env::var("PORTMASTER_EXPORT_NAMES").is_ok_and(|value| value == "1");
    let tracer = traces.tracer("portmaster");
    spans::set_tracer(tracer.clone(), names);
    Ok(Some(Exporter {
        tracer,
        traces,
        metrics,
        metrics_end: CancellationToken::new(),
        logs,
        runtime: handle,
        sent: None,
        names,
        _runtime: end.drop_guard(),
    }))
}

fn exporters(
    resource: &Resource,
    collector: &Collector,
) -> anyhow::Result<(SpanExporter, Metrics, LogExporter)> {
    let spans = SpanExporter::builder().with_tonic().build();
    let logs = LogExporter::builder().with_tonic().build();
    let spans = spans.context("export traces")?;
    let metrics = Metrics::from_environment(resource.into(), collector.clone());
    Ok((
        spans,
        metrics.context("export metrics")?,
        logs.context("export logs")?,
    ))
}

impl Exporter {
    /// What makes spans of `tracing` leave. Without names only our own, and without the events in them: their words are not
    /// known.
    pub(super) fn spans<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let names = self.names;
        let most = if names { Level::DEBUG } else { Level::INFO };
        let filter = move |metadata: &Metadata<'_>| {
            let ours = metadata.is_span() && part(metadata) == env!("CARGO_CRATE_NAME");
            leaves(metadata, most) && (names || ours)
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_filter(up_to(most, filter))
    }

    /// What makes log lines leave.
    pub(super) fn logs<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let filter = |metadata: &Metadata<'_>| metadata.is_event() && leaves(metadata, Level::INFO);
        Logs::new(self.logs.logger("portmaster"), self.names).with_filter(up_to(Level::INFO, filter))
    }

    /// Sends what is counted, at intervals and at the end.
    pub(super) fn watch(&mut self, status: &Status) {
        let sends = self.metrics.clone().run(status.clone(), self.metrics_end.clone());
        self.sent = Some(self.runtime.spawn(sends));
    }
}

impl Drop for Exporter {
    /// In a thread, since the SDK itself waits longer for a collector that hangs than it is told.
    fn drop(&mut self) {
        let (traces, logs) = (self.traces.clone(), self.logs.clone());
        let (runtime, counted) = (self.runtime.clone(), self.sent.take());
        self.metrics_end.cancel();
        let (sent, end) = mpsc::channel();
        thread::spawn(move || {
            let failed = [traces.shutdown().err(), logs.shutdown().err()];
            if let Some(counted) = counted {
                // it runs on the exporter's own thread, which ends after this
                let _ = runtime.block_on(counted);
            }
            // nobody waits any more where it took too long
            let _ = sent.send(failed.into_iter().flatten().next());
        });
        if !matches!(end.recv_timeout(LAST_WORDS), Ok(None)) {
            tracing::debug!("the last traces, metrics or logs were not sent");
        }
    }
}

/// Says at once which levels nobody needs to ask for: without that, every line of TRACE is asked about, in the crates that speak
/// HTTP/2 above all.
fn up_to<F: Fn(&Metadata<'_>) -> bool>(most: Level, filter: F) -> FilterFn<F> {
    FilterFn::new(filter).with_max_level_hint(most)
}

fn leaves(metadata: &Metadata<'_>, most: Level) -> bool {
    *metadata.level() <= most && !OWN.contains(&part(metadata))
}

/// The crate that it is in.
fn part<'a>(metadata: &Metadata<'a>) -> &'a str {
    metadata.target().split("::").next().unwrap_or_default()
}
