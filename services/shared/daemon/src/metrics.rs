//! What is measured by attributes, or in buckets: counters, gauges and histograms of durations.
//!
//! They cost the one who measures a few atomic additions, whether anybody exports or scrapes them or not. Attributes are words of
//! ours, known when the series is made: no name and no address can get into them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proto::common::v1::{Metric as WireMetric, MetricKind};

use crate::status::Counter;

/// What a metric is, over all its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// As OpenTelemetry names it: words with dots.
    pub name: &'static str,
    /// UCUM: `s`, `By`, `{decision}`, …
    pub unit: &'static str,
    /// A sentence without its dot.
    pub description: &'static str,
}

/// Words of ours by their keys.
pub type Attributes<'a> = &'a [(&'static str, &'static str)];

/// Time from one step to the next, of a new connection (attribute `portmaster.stage`).
pub const STAGE: Metric = Metric {
    name: "portmaster.stage.duration",
    unit: "s",
    description: "How long a stage took",
};
/// What was looked for in a cache (attributes `portmaster.cache`, `portmaster.result`).
pub const CACHE_LOOKUPS: Metric = Metric {
    name: "portmaster.cache.lookups",
    unit: "{lookup}",
    description: "What was looked for in a cache",
};
/// What was lost on its way to somebody (attribute `portmaster.to`).
pub const EVENTS_DROPPED: Metric = Metric {
    name: "portmaster.events.dropped",
    unit: "{event}",
    description: "Events that somebody who subscribed did not get",
};

/// A plain counter that is a series of a metric as well.
pub type Also = (&'static str, Metric, Attributes<'static>);

/// Bounds of a histogram: 2^0 to 2^24 microseconds (16.8 s), and one bucket for the rest.
pub const BUCKETS: usize = 26;

/// Counts durations by their order of magnitude. Cheap to record from any thread, and to clone.
#[derive(Clone, Debug, Default)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// It took so long.
    pub fn record(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.counts.get(bucket(nanoseconds)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was recorded: by bucket, and in sum.
    fn read(&self) -> (Vec<u64>, u64) {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        (counts.collect(), self.0.nanoseconds.load(Ordering::Relaxed))
    }
}

/// The first bucket whose bound is not less.
const fn bucket(nanoseconds: u64) -> usize {
    let microseconds = nanoseconds.div_ceil(1000);
    // 1 → 0, 2 → 1, 3 and 4 → 2, …
    let power = u64::BITS - microseconds.saturating_sub(1).leading_zeros();
    if (power as usize) < BUCKETS {
        power as usize
    } else {
        BUCKETS - 1
    }
}

/// The bound of a bucket in seconds; none for the last.
pub fn bound(bucket: usize) -> Option<f64> {
    let power = u32::try_from(bucket).ok().filter(|_| bucket + 1 < BUCKETS)?;
    // at most 2^24: exact
    Some(f64::from(1_u32 << power) / 1e6)
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Counter),
    Gauge(Counter),
    Histogram(Histogram),
}

/// A metric with its attributes.
type Key = (Metric, Box<[(&'static str, &'static str)]>);

/// All series of a service.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<Key, Series>>);

impl Registry {
    pub(crate) fn counter(&self, metric: Metric, attributes: Attributes<'_>, new: Counter) -> Counter {
        match self.series(metric, attributes, Series::Counter(new)) {
            Series::Counter(counter) | Series::Gauge(counter) => counter,
            // the same name for two kinds is a mistake of ours: what is counted is not shown
            Series::Histogram(_) => Counter::default(),
        }
    }

    pub(crate) fn gauge(&self, metric: Metric, attributes: Attributes<'_>, new: Counter) -> Counter {
        match self.series(metric, attributes, Series::Gauge(new)) {
            Series::Counter(gauge) | Series::Gauge(gauge) => gauge,
            Series::Histogram(_) => Counter::default(),
        }
    }

    pub(crate) fn histogram(&self, metric: Metric, attributes: Attributes<'_>, new: Histogram) -> Histogram {
        match self.series(metric, attributes, Series::Histogram(new)) {
            Series::Histogram(histogram) => histogram,
            Series::Counter(_) | Series::Gauge(_) => Histogram::default(),
        }
    }

    fn series(&self, metric: Metric, attributes: Attributes<'_>, new: Series) -> Series {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((metric, attributes.into())).or_insert(new).clone()
    }

    /// All of them, by name.
    pub(crate) fn read(&self) -> Vec<WireMetric> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .map(|((metric, attributes), series)| wire(metric, attributes, series))
            .collect()
    }
}

fn wire(metric: &Metric, attributes: Attributes<'_>, series: &Series) -> WireMetric {
    let words = attributes
        .iter()
        .map(|(key, word)| ((*key).to_owned(), (*word).to_owned()));
    let mut wire = WireMetric {
        name: metric.name.to_owned(),
        unit: metric.unit.to_owned(),
        description: metric.description.to_owned(),
        attributes: words.collect(),
        ..WireMetric::default()
    };
    match series {
        Series::Counter(counter) => {
            wire.set_kind(MetricKind::Counter);
            wire.value = counter.get();
        }
        Series::Gauge(gauge) => {
            wire.set_kind(MetricKind::Gauge);
            wire.value = gauge.get();
        }
        Series::Histogram(histogram) => {
            wire.set_kind(MetricKind::Histogram);
            (wire.buckets, wire.sum_nanoseconds) = histogram.read();
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOOK: Metric = Metric {
        name: "took",
        unit: "s",
        description: "",
    };

    #[test]
    fn a_series_is_shared_by_its_name_and_attributes() {
        let registry = Registry::default();
        registry.counter(TOOK, &[("a", "b")], Counter::default()).add(2);
        registry.counter(TOOK, &[("a", "b")], Counter::default()).add(3);
        registry.counter(TOOK, &[("a", "c")], Counter::default()).add(1);
        let values: Vec<_> = registry.read().iter().map(|metric| metric.value).collect();
        assert_eq!(values, [5, 1]);
    }

    #[test]
    fn a_histogram_tells_how_many_took_how_long() {
        let registry = Registry::default();
        let histogram = registry.histogram(TOOK, &[], Histogram::default());
        for micros in [0, 1, 2, 3, 4, 5] {
            histogram.record(Duration::from_micros(micros));
        }
        histogram.record(Duration::from_secs(3600));
        let read = registry.read();
        let [metric] = &read[..] else { panic!("{read:?}") };
        assert_eq!(metric.buckets[..5], [2, 1, 2, 1, 0]);
        assert_eq!(metric.buckets.last(), Some(&1));
        assert_eq!(metric.sum_nanoseconds, 3_600_000_000_000 + 15_000);
    }

    proptest! {
        #[test]
        fn a_duration_is_in_the_first_bucket_that_holds_it(nanoseconds: u64) {
            let at = bucket(nanoseconds);
            let seconds = nanoseconds as f64 / 1e9;
            if let Some(bound) = bound(at) {
                prop_assert!(seconds <= bound * (1.0 + 1e-12));
            }
            if at > 0 && let Some(lower) = bound(at - 1) {
                prop_assert!(seconds > lower * (1.0 - 1e-12));
            }
        }
    }
}
