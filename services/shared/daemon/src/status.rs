//! What a service says about itself: health, problems, counters. Shared, and cheap to change.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use proto::common::v1::{Health, Problem, ServiceState};
use tokio::sync::watch;

use crate::{
    About,
    metrics::{Also, Attributes, Histogram, Metric, Registry},
    ready,
};

/// Counts, or measures.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The file that runs; empty and zero where that is not to be learnt.
#[derive(Debug, Default)]
struct Executable {
    path: String,
    device: u64,
    inode: u64,
}

impl Executable {
    fn of_this_process() -> Self {
        const LINK: &str = "/proc/self/exe";
        let (Ok(path), Ok(file)) = (fs::read_link(LINK), fs::metadata(LINK)) else {
            return Self::default();
        };
        Self {
            path: path.to_string_lossy().into_owned(),
            device: file.dev(),
            inode: file.ino(),
        }
    }
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Status(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    about: About,
    executable: Executable,
    started: SystemTime,
    ready: AtomicBool,
    policy_version: AtomicU64,
    problems: Mutex<BTreeMap<&'static str, (String, SystemTime)>>,
    counters: Mutex<BTreeMap<&'static str, Counter>>,
    metrics: Registry,
    changes: watch::Sender<u64>,
}

impl Status {
    /// Starting, without problems.
    pub fn new(about: About) -> Self {
        Self(Arc::new(Inner {
            about,
            executable: Executable::of_this_process(),
            started: SystemTime::now(),
            ready: AtomicBool::new(false),
            policy_version: AtomicU64::new(0),
            problems: Mutex::default(),
            counters: Mutex::default(),
            metrics: Registry::default(),
            changes: watch::Sender::new(0),
        }))
    }

    /// Whose it is.
    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// The counter of this name; monotonic since start, unless the name ends in `_now`.
    pub fn counter(&self, name: &'static str) -> Counter {
        lock(&self.0.counters).entry(name).or_default().clone()
    }

    /// The counter of this metric and attributes; monotonic since start.
    pub fn counted(&self, metric: Metric, attributes: Attributes<'_>) -> Counter {
        self.0.metrics.counter(metric, attributes, Counter::default())
    }

    /// The gauge of this metric and attributes.
    pub fn gauge(&self, metric: Metric, attributes: Attributes<'_>) -> Counter {
        self.0.metrics.gauge(metric, attributes, Counter::default())
    }

    /// The histogram of this metric and attributes.
    pub fn histogram(&self, metric: Metric, attributes: Attributes<'_>) -> Histogram {
        self.show(metric, attributes, &Histogram::default())
    }

    /// One that somebody records in already, unless there is another.
    pub fn show(&self, metric: Metric, attributes: Attributes<'_>, histogram: &Histogram) -> Histogram {
        self.0.metrics.histogram(metric, attributes, histogram.clone())
    }

    /// One that somebody counts with already, unless there is another.
    pub fn show_counter(&self, metric: Metric, attributes: Attributes<'_>, counter: &Counter) {
        self.0.metrics.counter(metric, attributes, counter.clone());
    }

    /// The same for what goes up and down.
    pub fn show_gauge(&self, metric: Metric, attributes: Attributes<'_>, gauge: &Counter) {
        self.0.metrics.gauge(metric, attributes, gauge.clone());
    }

    /// Counters of [`Self::counter`] that are series of metrics too: whoever counts counts once.
    pub fn show_also(&self, counters: &[Also]) {
        for (plain, metric, attributes) in counters {
            let counter = self.counter(plain);
            if plain.ends_with("_now") {
                self.show_gauge(*metric, attributes, &counter);
            } else {
                self.show_counter(*metric, attributes, &counter);
            }
        }
    }

    /// When it was started.
    pub fn started(&self) -> SystemTime {
        self.0.started
    }

    /// Something is wrong, until [`Self::clear`]. Logged when it begins, and when its text changes no more than that.
    pub fn raise(&self, code: &'static str, text: impl Into<String>) {
        let text = text.into();
        let now = SystemTime::now();
        let previous = lock(&self.0.problems).insert(code, (text.clone(), now));
        match previous {
            Some((same, since)) if same == text => {
                lock(&self.0.problems).insert(code, (text, since));
                return;
            }
            Some((_, since)) => {
                lock(&self.0.problems).insert(code, (text.clone(), since));
                tracing::debug!(code, problem = text);
            }
            None => tracing::warn!(code, "{text}"),
        }
        self.change();
    }

    /// It is right again.
    pub fn clear(&self, code: &'static str) {
        if lock(&self.0.problems).remove(code).is_some() {
            tracing::info!(code, "problem solved");
            self.change();
        }
    }

    /// The service works: said to the service manager as well, once.
    pub fn ready(&self) {
        if !self.0.ready.swap(true, Ordering::Relaxed) {
            tracing::info!(version = self.0.about.version, "ready");
            ready::ready("ready");
            self.change();
        }
    }

    /// The policy in force in this service.
    pub fn set_policy_version(&self, version: u64) {
        if self.0.policy_version.swap(version, Ordering::Relaxed) != version {
            self.change();
        }
    }

    /// Health, from what was said.
    pub fn health(&self) -> Health {
        if !self.0.ready.load(Ordering::Relaxed) {
            Health::Starting
        } else if lock(&self.0.problems).is_empty() {
            Health::Ok
        } else {
            Health::Degraded
        }
    }

    /// Everything, now.
    pub fn snapshot(&self) -> ServiceState {
        let problem = |(code, (text, since)): (&&str, &(String, SystemTime))| Problem {
            code: (*code).to_owned(),
            text: text.clone(),
            since: Some((*since).into()),
        };
        ServiceState {
            service: self.0.about.name.to_owned(),
            version: self.0.about.version.to_owned(),
            pid: std::process::id(),
            started: Some(self.0.started.into()),
            health: self.health().into(),
            problems: lock(&self.0.problems).iter().map(problem).collect(),
            counters: lock(&self.0.counters)
                .iter()
                .map(|(name, counter)| ((*name).to_owned(), counter.get()))
                .collect(),
            policy_version: self.0.policy_version.load(Ordering::Relaxed),
            executable: self.0.executable.path.clone(),
            executable_device: self.0.executable.device,
            executable_inode: self.0.executable.inode,
            metrics: self.0.metrics.read(),
        }
    }

    /// Rings when anything but a counter changes.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn change(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing in here is left half done by a panic
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_make_it_degraded_until_they_are_cleared() {
        let status = Status::new(About {
            name: "x",
            version: "1",
        });
        assert_eq!(status.health(), Health::Starting);
        status.ready();
        assert_eq!(status.health(), Health::Ok);
        status.raise("a", "one");
        let since = status.snapshot().problems[0].since;
        status.raise("a", "two");
        let state = status.snapshot();
        assert_eq!((status.health(), state.problems.len()), (Health::Degraded, 1));
        assert_eq!(
            (state.problems[0].text.as_str(), state.problems[0].since),
            ("two", since)
        );
        status.clear("a");
        assert_eq!(status.health(), Health::Ok);
    }

    #[test]
    fn a_counter_is_shared_by_its_name() {
        let status = Status::new(About {
            name: "x",
            version: "1",
        });
        status.counter("packets").add(2);
        status.counter("packets").add(3);
        assert_eq!(status.snapshot().counters["packets"], 5);
    }
}
