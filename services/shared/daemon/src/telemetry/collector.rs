//! The collector as an exporter meets it: whether it takes what it is sent is logged when that changes, and no more often.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_otlp::{LogExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    logs::{LogBatch, LogExporter as ExportsLogs},
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
        self.took(result.as_ref().err().map(ToString::to_string));
        result
    }

    /// It took what it was sent, or failed.
    pub(super) fn took(&self, failed: Option<String>) {
        let was_away = self.away.swap(failed.is_some(), Ordering::Relaxed);
        match failed {
            Some(error) if !was_away => {
                // its address is in the error's text
                tracing::debug!(%error, "export");
                tracing::warn!("the OTLP collector takes nothing: what it misses is lost, all else goes on");
            }
            None if was_away => tracing::info!("the OTLP collector is there again"),
            _ => {}
        }
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
