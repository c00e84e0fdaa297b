//! The OpenMetrics 1.0 text format, for whoever scrapes.
//!
//! Aggregates alone: no name, no address. Names and units are as OpenTelemetry's rules for Prometheus turn them
//! (`dns.lookup.duration`, `s` → `dns_lookup_duration_seconds`).

use std::{collections::BTreeMap, fmt::Write as _};

use proto::common::v1::{Metric, MetricKind, ServiceState};

use crate::metrics::bound;

/// Content type of the text.
pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A text that is being made: samples come in any order, families of the same name become one.
#[derive(Debug, Default)]
pub struct Text {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: MetricKind,
    unit: &'static str,
    description: String,
    lines: String,
}

/// Labels of a sample.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// A gauge without a unit.
    pub fn gauge(&mut self, name: &str, labels: Labels<'_>, value: u64) {
        self.plain(name, MetricKind::Gauge, labels, value);
    }

    /// Everything that a service counted, under names that begin with `prefix`: plain counters by their own names, `_now` says
    /// gauge; metrics by theirs.
    pub fn state(&mut self, prefix: &str, labels: Labels<'_>, state: &ServiceState) {
        let mut counters: Vec<_> = state.counters.iter().collect();
        counters.sort();
        for (name, value) in counters {
            let (name, kind) = match name.strip_suffix("_now") {
                Some(name) => (name, MetricKind::Gauge),
                None => (name.as_str(), MetricKind::Counter),
            };
            self.plain(&format!("{prefix}_{name}"), kind, labels, *value);
        }
        for metric in &state.metrics {
            self.metric(metric, labels);
        }
    }

    fn plain(&mut self, name: &str, kind: MetricKind, labels: Labels<'_>, value: u64) {
        let name = word(name.strip_suffix("_total").unwrap_or(name));
        let (name, family) = self.family(name, kind, "", "");
        let suffix = if kind == MetricKind::Counter { "_total" } else { "" };
        sample(&mut family.lines, &name, suffix, &all(labels, None), value);
    }

    fn metric(&mut self, metric: &Metric, labels: Labels<'_>) {
        let unit = match metric.unit.as_str() {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        let mut name = word(&metric.name);
        if !unit.is_empty() {
            name = format!("{name}_{unit}");
        }
        let mut attributes: Vec<_> = metric
            .attributes
            .iter()
            .map(|(key, text)| (key.as_str(), text.as_str()))
            .collect();
        attributes.sort_unstable();
        let labels: Vec<_> = labels.iter().copied().chain(attributes).collect();
        let (name, family) = self.family(name, metric.kind(), unit, &metric.description);
        let lines = &mut family.lines;
        match metric.kind() {
            MetricKind::Counter => sample(lines, &name, "_total", &all(&labels, None), metric.value),
            MetricKind::Histogram => histogram(lines, &name, &labels, metric),
            MetricKind::Gauge | MetricKind::Unspecified => {
                sample(lines, &name, "", &all(&labels, None), metric.value);
            }
        }
    }

    /// The family of this name, and its name: a gauge and a counter that have the same one are told apart.
    fn family(
        &mut self,
        name: String,
        kind: MetricKind,
        unit: &'static str,
        description: &str,
    ) -> (String, &mut Family) {
        let taken = |name: &str| self.families.get(name).is_some_and(|family| family.kind != kind);
        let name = if taken(&name) {
            match kind {
                MetricKind::Gauge => format!("{name}_now"),
                _ => format!("{name}_count_since_start"),
            }
        } else {
            name
        };
        let family = self.families.entry(name.clone()).or_insert_with(|| Family {
            kind,
            unit,
            description: description.to_owned(),
            lines: String::new(),
        });
        (name, family)
    }

    /// The whole text.
    pub fn finish(self) -> String {
        let mut text = String::new();
        for (name, family) in self.families {
            let kind = match family.kind {
                MetricKind::Counter => "counter",
                MetricKind::Histogram => "histogram",
                MetricKind::Gauge | MetricKind::Unspecified => "gauge",
            };
            // writing to a String cannot fail
            let _ = writeln!(text, "# TYPE {name} {kind}");
            if !family.unit.is_empty() {
                let _ = writeln!(text, "# UNIT {name} {}", family.unit);
            }
            if !family.description.is_empty() {
                let _ = writeln!(text, "# HELP {name} {}", escaped(&family.description));
            }
            text.push_str(&family.lines);
        }
        text.push_str("# EOF\n");
        text
    }
}

/// Buckets are cumulative here, and the last one is the count.
fn histogram(lines: &mut String, name: &str, labels: Labels<'_>, metric: &Metric) {
    let mut count = 0_u64;
    for (index, inside) in metric.buckets.iter().enumerate() {
        count = count.saturating_add(*inside);
        let until = bound(index).map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        // OpenMetrics wants a float
        let until = if until.contains(['.', 'I']) {
            until
        } else {
            format!("{until}.0")
        };
        sample(lines, name, "_bucket", &all(labels, Some(&until)), count);
    }
    sample(lines, name, "_count", &all(labels, None), count);
    let (seconds, rest) = (
        metric.sum_nanoseconds / 1_000_000_000,
        metric.sum_nanoseconds % 1_000_000_000,
    );
    let _ = writeln!(lines, "{name}_sum{} {seconds}.{rest:09}", all(labels, None));
}

fn sample(lines: &mut String, name: &str, suffix: &str, labels: &str, value: u64) {
    let _ = writeln!(lines, "{name}{suffix}{labels} {value}");
}

/// `{a="b",le="1.0"}`; empty where there are none.
fn all(labels: Labels<'_>, until: Option<&str>) -> String {
    let labels = labels.iter().copied().chain(until.map(|until| ("le", until)));
    let words: Vec<_> = labels
        .map(|(key, text)| format!("{}=\"{}\"", word(key), escaped(text)))
        .collect();
    if words.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", words.join(","))
    }
}

fn word(name: &str) -> String {
    let fits = |sign: char| if sign.is_ascii_alphanumeric() { sign } else { '_' };
    name.chars().map(fits).collect()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        About,
        metrics::{Metric as Kind, STAGE},
        status::Status,
    };

    fn status() -> Status {
        Status::new(About {
            name: "x",
            version: "1",
        })
    }

    #[test]
    fn counters_and_gauges_are_told_apart() {
        let status = status();
        status.counter("streams").add(7);
        status.counter("streams_now").set(2);
        let mut text = Text::default();
        text.state("portmaster", &[("service", "a\"b")], &status.snapshot());
        assert_eq!(
            text.finish(),
            "# TYPE portmaster_streams counter\nportmaster_streams_total{service=\"a\\\"b\"} 7\n\
             # TYPE portmaster_streams_now gauge\nportmaster_streams_now{service=\"a\\\"b\"} 2\n# EOF\n"
        );
    }

    #[test]
    fn metrics_have_units_and_histograms_cumulative_buckets() {
        const SENT: Kind = Kind {
            name: "portmaster.io",
            unit: "By",
            description: "Carried",
        };
        let status = status();
        status
            .counted(SENT, &[("network.io.direction", "transmit")])
            .add(5);
        let stage = status.histogram(STAGE, &[("portmaster.stage", "decide")]);
        stage.record(Duration::from_micros(3));
        stage.record(Duration::from_secs(60));
        let mut text = Text::default();
        text.state("portmaster", &[], &status.snapshot());
        let text = text.finish();
        for line in [
            "# UNIT portmaster_io_bytes bytes\n# HELP portmaster_io_bytes Carried\n\
             portmaster_io_bytes_total{network_io_direction=\"transmit\"} 5\n",
            "portmaster_stage_duration_seconds_bucket{portmaster_stage=\"decide\",le=\"0.000002\"} 0\n",
            "portmaster_stage_duration_seconds_bucket{portmaster_stage=\"decide\",le=\"0.000004\"} 1\n",
            "portmaster_stage_duration_seconds_bucket{portmaster_stage=\"decide\",le=\"+Inf\"} 2\n",
            "portmaster_stage_duration_seconds_count{portmaster_stage=\"decide\"} 2\n",
            "portmaster_stage_duration_seconds_sum{portmaster_stage=\"decide\"} 60.000003000\n",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
    }
}
