//! The collector as an exporter meets it: whether it takes what it is sent is logged when that changes, and no more often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as ExportsLogs},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter as ExportsSpans},
};

/// Shared by all that is sent there.
#[derive(Clone, Debug, Default)]
pub(super) struct Collector {
    away: Arc<AtomicBool>,
}

impl Collector {
    pub(super) fn of<E>(&self, exporter: E) -> Watched<E> {
        Watched {
            exporter,
            collector: self.clone(),
        }
    }

    fn note(&self, result: OTelSdkResult) -> OTelSdkResult {
        let was_away = self.away.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_away => {
                // its address is in the error's text
                tracing::debug!(%error, "export");
                tracing::warn!("the OTLP collector takes nothing: what it misses is lost, all else goes on");
            }
            Ok(()) if was_away => tracing::info!("the OTLP collector is there again"),
            _ => {}
        }
        result
    }
}

/// An exporter that says when its collector goes and comes.
#[derive(Debug)]
pub(super) struct Watched<E> {
    exporter: E,
    collector: Collector,
}

impl ExportsSpans for Watched<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.collector.note(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl ExportsLogs for Watched<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.collector.note(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for Watched<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.collector.note(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
