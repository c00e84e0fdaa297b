//! The scripts of this folder, inside of a host and outside.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use integration::{Booted, Running, booted::Builder};
use rustix::process::{Signal, kill_process_group};
use serde::{Deserialize, de::DeserializeOwned};

/// Where they lie on the host.
pub(crate) const PLACE: &str = "/opt";
const SCRIPTS: [(&str, &str); 4] = [
    ("load.py", include_str!("load.py")),
    ("names.py", include_str!("names.py")),
    ("calls.py", include_str!("calls.py")),
    ("tunnel.py", include_str!("tunnel.py")),
];
/// What runs them there: the executable that a profile names.
pub(crate) const PYTHON: &str = "/usr/bin/python3.11";

/// With all of them.
pub(crate) fn files(host: Builder) -> Builder {
    SCRIPTS.iter().fold(host, |host, (name, text)| {
        host.file(&format!("{PLACE}/{name}"), text)
    })
}

/// What a stream of attempts came to.
#[derive(Debug, Deserialize)]
pub(crate) struct Count {
    pub(crate) attempted: u64,
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) failed: u64,
    /// Asked once more, since who was asked had ended.
    pub(crate) again: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) median_ms: f64,
    pub(crate) longest_ms: f64,
    /// The longest wait of each time in which attempts had to wait.
    pub(crate) waits_ms: Vec<f64>,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = match self.again {
            0 => String::new(),
            again => format!(", {again} asked again"),
        };
        write!(
            f,
            "{} attempted, {} done, {} refused, {} timed out, {} failed {:?}{again}; median {:.2} ms, longest {:.0} ms",
            self.attempted,
            self.done,
            self.refused,
            self.lost,
            self.failed,
            self.errors,
            self.median_ms,
            self.longest_ms
        )
    }
}

/// Streams of attempts, by what they ask.
pub(crate) type Counts = BTreeMap<String, Count>;

/// Streams of attempts side by side.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pub(crate) counts: Counts,
}

impl Asked {
    /// # Panics
    /// If anything was asked in vain, or refused.
    #[track_caller]
    pub(crate) fn assert_all_answered(&self) {
        for (what, count) in &self.counts {
            assert!(count.done > 0, "{what}: there was no load: {self}");
            assert_eq!(count.done, count.attempted, "{what}: {self}");
        }
    }

    /// For restarts of all services at once. What strayed to another server is not left without an answer, but may be answered as an
    /// unknown program's (docs/reliability.md).
    ///
    /// # Panics
    /// If what was asked at our own addresses was asked in vain or refused.
    #[track_caller]
    pub(crate) fn assert_own_answered(&self, strangers: &[&str]) {
        for (what, count) in &self.counts {
            assert!(count.done > 0, "{what}: there was no load: {self}");
            assert_eq!((count.refused, count.lost), (0, 0), "{what}: {self}");
            if !strangers.iter().any(|stranger| what.ends_with(stranger)) {
                assert_eq!(count.done, count.attempted, "{what}: {self}");
            }
        }
    }

    /// # Panics
    /// If anything was asked in vain, refused, or had to be asked once more.
    #[track_caller]
    pub(crate) fn assert_none_dropped(&self) {
        self.assert_all_answered();
        for (what, count) in &self.counts {
            assert_eq!(count.again, 0, "{what}: {self}");
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.counts {
            writeln!(f, "{what}: {count}")?;
        }
        let mut waits: Vec<f64> = self
            .counts
            .values()
            .flat_map(|count| count.waits_ms.clone())
            .collect();
        waits.sort_by(f64::total_cmp);
        let middle = waits.get(waits.len() / 2).copied().unwrap_or_default();
        let longest = waits.last().copied().unwrap_or_default();
        write!(
            f,
            "without an answer: median {middle:.0} ms, longest {longest:.0} ms"
        )
    }
}

/// A script that said that it is ready.
pub(crate) struct Started {
    running: Running,
    out: BufReader<ChildStdout>,
}

impl Started {
    /// On the host, by that interpreter.
    pub(crate) fn inside(host: &Booted, python: &str, script: &str, arguments: &[&str]) -> Self {
        let mut command = host.command(python);
        command.arg(format!("{PLACE}/{script}")).args(arguments);
        Self::of(script, command)
    }

    /// On the internet.
    pub(crate) fn outside(host: &Booted, script: &str, arguments: &[&str]) -> Self {
        let path = host.root().join(PLACE.trim_start_matches('/')).join(script);
        let mut command = host.internet.command("python3");
        command.arg(path).args(arguments);
        Self::of(script, command)
    }

    fn of(name: &str, mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut running = Running::start(name, command);
        let child: &mut Child = running.child();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{name}");
        Self { running, out }
    }

    /// Ends it; what it says then.
    pub(crate) fn told<T: DeserializeOwned>(mut self) -> T {
        // to the whole group: nsenter passes nothing on
        kill_process_group(self.running.pid(), Signal::TERM).unwrap();
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        self.running.wait();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }
}
