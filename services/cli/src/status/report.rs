//! What one service says about itself, as JSON and as text.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode, time::Duration};

use proto::common::v1::{Health, ServiceState};
use serde::Serialize;

use crate::{
    clock,
    paint::{Paint, Tone},
    place::Service,
    printable::printable,
};

const DEGRADED: u8 = 1;
const DOWN: u8 = 3;

/// A line of counters is not longer, if a counter alone is not.
const COLUMNS: usize = 100;

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    Starting,
    Degraded,
    Failed,
    Down,
}

impl State {
    const fn word(self) -> (Tone, &'static str) {
        match self {
            Self::Ok => (Tone::Good, "ok"),
            Self::Starting => (Tone::Warning, "starting"),
            Self::Degraded => (Tone::Warning, "degraded"),
            Self::Failed => (Tone::Bad, "failed"),
            Self::Down => (Tone::Bad, "down"),
        }
    }

    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Ok => ExitCode::SUCCESS,
            Self::Starting | Self::Degraded | Self::Failed => ExitCode::from(DEGRADED),
            Self::Down => ExitCode::from(DOWN),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    service: &'static str,
    pub(super) health: State,
    socket: String,
    /// Why it is down; "" where it is not.
    error: String,
    version: String,
    pid: Option<u32>,
    started: String,
    policy_version: u64,
    problems: Vec<ProblemJson>,
    counters: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct ProblemJson {
    code: String,
    text: String,
    since: String,
}

impl Report {
    pub(super) fn of(service: Service, socket: String, state: ServiceState) -> Self {
        let health = match state.health() {
            Health::Ok if state.problems.is_empty() => State::Ok,
            Health::Ok | Health::Degraded => State::Degraded,
            Health::Unspecified | Health::Starting => State::Starting,
            Health::Failed => State::Failed,
        };
        let problems = state.problems.into_iter().map(|problem| ProblemJson {
            code: problem.code,
            text: problem.text,
            since: clock::rfc3339(problem.since.as_ref()),
        });
        Self {
            problems: problems.collect(),
            version: state.version,
            pid: Some(state.pid),
            started: clock::rfc3339(state.started.as_ref()),
            policy_version: state.policy_version,
            counters: state.counters.into_iter().collect(),
            ..Self::empty(service, health, socket)
        }
    }

    pub(super) fn down(service: Service, socket: String, error: String) -> Self {
        Self {
            error,
            ..Self::empty(service, State::Down, socket)
        }
    }

    fn empty(service: Service, health: State, socket: String) -> Self {
        Self {
            service: service.name(),
            health,
            socket,
            error: String::new(),
            version: String::new(),
            pid: None,
            started: String::new(),
            policy_version: 0,
            problems: Vec::new(),
            counters: BTreeMap::new(),
        }
    }

    pub(super) fn text(&self, paint: Paint) -> String {
        let (tone, word) = self.health.word();
        let (name, health) = (
            paint.text(Tone::Title, self.service, 16),
            paint.text(tone, word, 8),
        );
        let mut text = format!("{name}  {health}  {}\n", self.summary());
        for problem in &self.problems {
            let code = paint.text(Tone::Warning, printable(&problem.code), 0);
            let since = clock::time_of_day(&problem.since);
            let _infallible = writeln!(text, "    {code}: {} (since {since})", printable(&problem.text));
        }
        let counters = self
            .counters
            .iter()
            .map(|(name, count)| format!("{} {count}", printable(name)));
        for line in wrapped(counters, COLUMNS) {
            let _infallible = writeln!(text, "    {}", paint.text(Tone::Faint, line, 0));
        }
        text
    }

    fn summary(&self) -> String {
        if self.health == State::Down {
            return printable(&self.error).into_owned();
        }
        let pid = self.pid.map_or_else(String::new, |pid| format!("  pid {pid}"));
        let up = uptime(&self.started).map_or_else(String::new, |up| format!("  up {up}"));
        let policy = if self.policy_version == 0 {
            String::new()
        } else {
            format!("  policy {}", self.policy_version)
        };
        format!("{}{pid}{up}{policy}", printable(&self.version))
    }
}

/// Joins words with ", " into lines of at most `columns`, if a word alone is not longer.
fn wrapped(words: impl Iterator<Item = String>, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + word.chars().count() <= columns => {
                line.push_str(", ");
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

fn uptime(started: &str) -> Option<String> {
    let started: jiff::Timestamp = started.parse().ok()?;
    let up = jiff::Timestamp::now().duration_since(started);
    Duration::try_from(up).ok().map(clock::span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;

    fn state(health: Health) -> ServiceState {
        ServiceState {
            health: health.into(),
            version: "0.1.0".to_owned(),
            pid: 7,
            ..ServiceState::default()
        }
    }

    fn report(state: ServiceState) -> Report {
        Report::of(Service::Policy, "/run/x.sock".to_owned(), state)
    }

    #[test]
    fn a_service_that_says_ok_with_a_problem_is_degraded() {
        assert_eq!(report(state(Health::Ok)).health, State::Ok);
        let problem = proto::common::v1::Problem {
            code: "profile-refused".to_owned(),
            ..Default::default()
        };
        let with_problem = ServiceState {
            problems: vec![problem],
            ..state(Health::Ok)
        };
        assert_eq!(report(with_problem).health, State::Degraded);
        assert_eq!(report(state(Health::Unspecified)).health, State::Starting);
    }

    #[test]
    fn the_worst_counts() {
        let all = [State::Ok, State::Down, State::Degraded];
        assert_eq!(all.iter().max(), Some(&State::Down));
    }

    #[test]
    fn text_names_problems_and_counters() {
        let problem = proto::common::v1::Problem {
            code: "a-b".to_owned(),
            text: "read x\x1b".to_owned(),
            since: None,
        };
        let counters = [("packets".to_owned(), 3), ("decided".to_owned(), 2)].into();
        let state = ServiceState {
            problems: vec![problem],
            counters,
            policy_version: 4,
            ..state(Health::Degraded)
        };
        let text = report(state).text(Paint::for_stdout(Color::Never));
        assert_eq!(
            text,
            "policy            degraded  0.1.0  pid 7  policy 4\n    a-b: read x\\u{1b} (since )\n    decided 2, packets 3\n"
        );
    }

    #[test]
    fn lines_stay_short() {
        let lines = wrapped(["aa", "bb", "ccccccc", "d"].map(str::to_owned).into_iter(), 6);
        assert_eq!(lines, ["aa, bb", "ccccccc", "d"]);
    }
}
