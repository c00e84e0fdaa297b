//! Metrics on their way out: what [`Status`] has, at intervals, as OTLP wants it.
//!
//! Not by the SDK: its instruments keep state of their own and lock where they record, and what is counted here is counted for
//! those who scrape as well.

use std::{
    collections::BTreeMap,
    env,
    str::FromStr as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point::Value as Number,
    },
    resource::v1::Resource,
};
use proto::common::v1::{Metric as Series, MetricKind};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::collector::Collector;
use crate::{metrics::bound, status::Status};

/// Where a collector is, unless the owner says otherwise (OpenTelemetry's own default).
const COLLECTOR: &str = "http://localhost:4317";
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);

/// To one collector.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    interval: Duration,
    resource: Resource,
    collector: Collector,
}

impl Metrics {
    /// As OpenTelemetry's variables say; inside the runtime that it is to run in.
    pub(super) fn from_environment(resource: Resource, collector: Collector) -> anyhow::Result<Self> {
        let endpoint =
            text("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT").or_else(|| text("OTEL_EXPORTER_OTLP_ENDPOINT"));
        let endpoint = Endpoint::from_shared(endpoint.unwrap_or_else(|| COLLECTOR.to_owned()))?;
        let is_tls = endpoint.uri().scheme_str() == Some("https");
        anyhow::ensure!(
            !is_tls,
            "there is no TLS to a collector: let one on this host pass it on"
        );
        let timeout = milliseconds("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")
            .or_else(|| milliseconds("OTEL_EXPORTER_OTLP_TIMEOUT"))
            .unwrap_or(TIMEOUT);
        let headers =
            text("OTEL_EXPORTER_OTLP_METRICS_HEADERS").or_else(|| text("OTEL_EXPORTER_OTLP_HEADERS"));
        Ok(Self {
            client: MetricsServiceClient::new(endpoint.timeout(timeout).connect_lazy()),
            headers: metadata(&headers.unwrap_or_default()).context("headers for the collector")?,
            interval: milliseconds("OTEL_METRIC_EXPORT_INTERVAL")
                .filter(|interval| !interval.is_zero())
                .unwrap_or(INTERVAL),
            resource,
            collector,
        })
    }

    /// Sends at intervals, and once more at the `end`.
    pub(super) async fn run(mut self, status: Status, end: CancellationToken) {
        let mut goes_on = true;
        while goes_on {
            goes_on = end
                .run_until_cancelled(tokio::time::sleep(self.interval))
                .await
                .is_some();
            let mut request = Request::new(request(&status, &self.resource, SystemTime::now()));
            *request.metadata_mut() = self.headers.clone();
            let sent = self.client.export(request).await;
            self.collector.took(sent.err().map(|refused| refused.to_string()));
        }
    }
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn milliseconds(name: &str) -> Option<Duration> {
    text(name)?.trim().parse().ok().map(Duration::from_millis)
}

/// `name=value,…`, as in W3C baggage, without percent signs.
fn metadata(headers: &str) -> anyhow::Result<MetadataMap> {
    let mut map = MetadataMap::new();
    for header in headers.split(',').filter(|header| !header.trim().is_empty()) {
        let (name, value) = header
            .split_once('=')
            .context("they are name=value, with commas between")?;
        let name = MetadataKey::from_str(name.trim()).context("a name")?;
        map.insert(name, MetadataValue::from_str(value.trim()).context("a value")?);
    }
    Ok(map)
}

/// Everything, now. Plain counters are `portmaster.count`, plain gauges `portmaster.now`, by the attribute `name`;
/// `portmaster.health` is the number of the health.
fn request(status: &Status, resource: &Resource, now: SystemTime) -> ExportMetricsServiceRequest {
    let state = status.snapshot();
    let (began, now) = (nanoseconds(status.started()), nanoseconds(now));
    let times = Times { began, now };
    let mut metrics: BTreeMap<&str, Metric> = BTreeMap::new();
    let health = u64::try_from(state.health).unwrap_or(0);
    metrics.insert(
        "portmaster.health",
        gauge("portmaster.health", vec![times.number(&[], health)]),
    );
    let (gauges, counts): (Vec<_>, Vec<_>) = state
        .counters
        .iter()
        .partition(|(name, _)| name.ends_with("_now"));
    let points = |of: Vec<(&String, &u64)>| {
        of.into_iter()
            .map(|(name, value)| times.number(&[("name", name)], *value))
            .collect()
    };
    metrics.insert("portmaster.now", gauge("portmaster.now", points(gauges)));
    metrics.insert("portmaster.count", sum("portmaster.count", points(counts)));
    for series in &state.metrics {
        let metric = metrics.entry(&series.name).or_insert_with(|| empty(series));
        times.add(metric, series);
    }
    let scope = InstrumentationScope {
        name: "portmaster".to_owned(),
        version: status.about().version.to_owned(),
        ..InstrumentationScope::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource.clone()),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope),
                metrics: metrics.into_values().collect(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn gauge(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        data: Some(Data::Gauge(Gauge { data_points })),
        ..Metric::default()
    }
}

fn sum(name: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    Metric {
        name: name.to_owned(),
        data: Some(Data::Sum(Sum {
            data_points,
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        })),
        ..Metric::default()
    }
}

/// The metric that a series is of.
fn empty(series: &Series) -> Metric {
    let mut metric = match series.kind() {
        MetricKind::Counter => sum(&series.name, Vec::new()),
        MetricKind::Histogram => Metric {
            name: series.name.clone(),
            data: Some(Data::Histogram(Histogram {
                data_points: Vec::new(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })),
            ..Metric::default()
        },
        MetricKind::Gauge | MetricKind::Unspecified => gauge(&series.name, Vec::new()),
    };
    metric.unit.clone_from(&series.unit);
    metric.description.clone_from(&series.description);
    metric
}

/// When it was counted.
struct Times {
    began: u64,
    now: u64,
}

impl Times {
    fn number(&self, attributes: &[(&str, &str)], value: u64) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes
                .iter()
                .map(|(key, word)| attribute(key, word))
                .collect(),
            start_time_unix_nano: self.began,
            time_unix_nano: self.now,
            value: Some(Number::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
            ..NumberDataPoint::default()
        }
    }

    fn add(&self, metric: &mut Metric, series: &Series) {
        let attributes: Vec<_> = series
            .attributes
            .iter()
            .map(|(key, word)| (key.as_str(), word.as_str()))
            .collect();
        match &mut metric.data {
            Some(Data::Sum(Sum { data_points, .. }) | Data::Gauge(Gauge { data_points })) => {
                data_points.push(self.number(&attributes, series.value));
            }
            Some(Data::Histogram(histogram)) => histogram.data_points.push(HistogramDataPoint {
                attributes: attributes
                    .iter()
                    .map(|(key, word)| attribute(key, word))
                    .collect(),
                start_time_unix_nano: self.began,
                time_unix_nano: self.now,
                count: series.buckets.iter().sum(),
                sum: Some(Duration::from_nanos(series.sum_nanoseconds).as_secs_f64()),
                bucket_counts: series.buckets.clone(),
                explicit_bounds: (0..series.buckets.len()).map_while(bound).collect(),
                ..HistogramDataPoint::default()
            }),
            _ => {}
        }
    }
}

fn attribute(key: &str, word: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(word.to_owned())),
        }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, metrics::STAGE};

    #[test]
    fn what_was_counted_is_told_by_name_kind_and_attributes() {
        let status = Status::new(About {
            name: "x",
            version: "1",
        });
        status.counter("packets").add(3);
        status.counter("flows_now").set(2);
        status
            .histogram(STAGE, &[("portmaster.stage", "decide")])
            .record(Duration::from_micros(2));
        status.histogram(STAGE, &[("portmaster.stage", "publish")]);
        let told = request(&status, &Resource::default(), SystemTime::now());
        let metrics = &told.resource_metrics[0].scope_metrics[0].metrics;
        let names: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "portmaster.count",
                "portmaster.health",
                "portmaster.now",
                STAGE.name
            ]
        );
        let Some(Data::Histogram(stages)) = &metrics[3].data else {
            panic!("{metrics:?}")
        };
        let [decide, publish] = &stages.data_points[..] else {
            panic!("{stages:?}")
        };
        assert_eq!((decide.count, decide.sum, publish.count), (1, Some(2e-6), 0));
        assert_eq!(decide.bucket_counts.len(), decide.explicit_bounds.len() + 1);
        assert_eq!(metrics[3].unit, "s");
    }

    #[test]
    fn headers_are_pairs_with_commas() {
        let headers = metadata("a=b, authorization=Bearer x=,").unwrap();
        assert_eq!(headers.get("authorization").unwrap(), "Bearer x=");
        assert_eq!(headers.get("a").unwrap(), "b");
        metadata("nothing").unwrap_err();
        metadata("a b=c").unwrap_err();
    }
}
