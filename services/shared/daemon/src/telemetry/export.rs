//! OTLP over gRPC, configured by the variables that OpenTelemetry names (`OTEL_EXPORTER_OTLP_ENDPOINT`, …).
//!
//! It has a thread and a runtime of its own: a collector that hangs holds up nobody, and what waits is bounded.

use std::{env, sync::mpsc, thread, time::Duration};

use anyhow::Context as _;
use opentelemetry::{
    KeyValue, global, logs::LoggerProvider as _, metrics::MeterProvider as _, trace::TracerProvider as _,
};
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

use super::{collector::Collector, logs::Logs, spans};
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
    metrics: SdkMeterProvider,
    logs: SdkLoggerProvider,
    tracer: SdkTracer,
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
    let exporters = {
        // connections belong to the runtime that they are made in
        let _inside = runtime.enter();
        exporters()
    };
    let (spans, metrics, logs) = match exporters {
        Ok(exporters) => exporters,
        Err(error) => {
            // it must not be waited for where everything else runs
            runtime.shutdown_background();
            return Err(error);
        }
    };
    let collector = Collector::default();
    let end = CancellationToken::new();
    let ended = end.clone();
    thread::Builder::new()
        .name("telemetry".into())
        .spawn(move || runtime.block_on(ended.cancelled()))?;
    let resource = Resource::builder()
        .with_service_name(format!("portmaster-{}", about.name))
        .with_attribute(KeyValue::new("service.version", about.version))
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(collector.of(spans))
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_periodic_exporter(collector.of(metrics))
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
        logs,
        names,
        _runtime: end.drop_guard(),
    }))
}

fn exporters() -> anyhow::Result<(SpanExporter, MetricExporter, LogExporter)> {
    let spans = SpanExporter::builder().with_tonic().build();
    let metrics = MetricExporter::builder().with_tonic().build();
    let logs = LogExporter::builder().with_tonic().build();
    Ok((
        spans.context("export traces")?,
        metrics.context("export metrics")?,
        logs.context("export logs")?,
    ))
}

impl Exporter {
    /// What makes spans of `tracing` leave. Without names only our own, and without the events in them: their words are not
    /// known.
    pub(super) fn spans<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let names = self.names;
        let filter = move |metadata: &Metadata<'_>| {
            let ours = metadata.is_span() && part(metadata) == env!("CARGO_CRATE_NAME");
            leaves(metadata, if names { Level::DEBUG } else { Level::INFO }) && (names || ours)
        };
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_filter(FilterFn::new(filter))
    }

    /// What makes log lines leave.
    pub(super) fn logs<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let filter = |metadata: &Metadata<'_>| metadata.is_event() && leaves(metadata, Level::INFO);
        Logs::new(self.logs.logger("portmaster"), self.names).with_filter(FilterFn::new(filter))
    }

    /// `portmaster.count` and `portmaster.now` carry the counters by `name`, `portmaster.health` the number of the health.
    pub(super) fn watch(&self, status: &Status) {
        let meter = self.metrics.meter("portmaster");
        let of = status.clone();
        let _counts = meter
            .u64_observable_counter("portmaster.count")
            .with_callback(move |out| {
                for (name, value) in counters(&of, false) {
                    out.observe(value, &[KeyValue::new("name", name)]);
                }
            })
            .build();
        let of = status.clone();
        let _gauges = meter
            .u64_observable_gauge("portmaster.now")
            .with_callback(move |out| {
                for (name, value) in counters(&of, true) {
                    out.observe(value, &[KeyValue::new("name", name)]);
                }
            })
            .build();
        let of = status.clone();
        let _health = meter
            .i64_observable_gauge("portmaster.health")
            .with_callback(move |out| out.observe(i64::from(i32::from(of.health())), &[]))
            .build();
    }
}

impl Drop for Exporter {
    /// In a thread, since the SDK itself waits longer for a collector that hangs than it is told.
    fn drop(&mut self) {
        let (traces, metrics, logs) = (self.traces.clone(), self.metrics.clone(), self.logs.clone());
        let (sent, end) = mpsc::channel();
        thread::spawn(move || {
            let failed = [
                traces.shutdown().err(),
                metrics.shutdown().err(),
                logs.shutdown().err(),
            ];
            // nobody waits any more where it took too long
            let _ = sent.send(failed.into_iter().flatten().next());
        });
        if !matches!(end.recv_timeout(LAST_WORDS), Ok(None)) {
            tracing::debug!("the last traces, metrics or logs were not sent");
        }
    }
}

fn leaves(metadata: &Metadata<'_>, most: Level) -> bool {
    *metadata.level() <= most && !OWN.contains(&part(metadata))
}

/// The crate that it is in.
fn part<'a>(metadata: &Metadata<'a>) -> &'a str {
    metadata.target().split("::").next().unwrap_or_default()
}

fn counters(status: &Status, gauges: bool) -> impl Iterator<Item = (String, u64)> {
    status
        .snapshot()
        .counters
        .into_iter()
        .filter(move |(name, _)| name.ends_with("_now") == gauges)
}
