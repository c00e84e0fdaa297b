//! `portmaster status`: how every service is, also where some are down.

use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode, time::Duration};

use anyhow::Result;
use proto::{
    common::v1::{GetStateRequest, Health, ServiceState},
    interceptor::v1::interceptor_client::InterceptorClient,
    policy::v1::policy_client::PolicyClient,
    resolver::v1::process_resolver_client::ProcessResolverClient,
};
use serde::Serialize;
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

use crate::{
    args::StatusArgs,
    clock,
    output::print,
    paint::{Paint, Tone},
    place::{PlaceArgs, Service},
    printable::{json_line, printable},
};

/// A service that does not answer by then is down.
const PATIENCE: Duration = Duration::from_secs(3);

const DEGRADED: u8 = 1;
const DOWN: u8 = 3;

/// Prints the state of all services. Exit status: 0 healthy, 1 with a problem, 3 where one is down.
pub(crate) async fn run(args: StatusArgs, paint: Paint) -> Result<ExitCode> {
    let reports = futures_util::future::join_all(Service::ALL.map(|service| ask(&args.place, service))).await;
    let worst = reports
        .iter()
        .map(|report| report.health)
        .max()
        .unwrap_or(State::Ok);
    let text = if args.json {
        json_line(&Whole {
            health: worst,
            services: &reports,
        })?
    } else {
        reports.iter().map(|report| report.text(paint)).collect()
    };
    print(&text)?;
    Ok(worst.exit_code())
}

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
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

    fn exit_code(self) -> ExitCode {
        match self {
            Self::Ok => ExitCode::SUCCESS,
            Self::Starting | Self::Degraded | Self::Failed => ExitCode::from(DEGRADED),
            Self::Down => ExitCode::from(DOWN),
        }
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    health: State,
    services: &'a [Report],
}

#[derive(Debug, Serialize)]
struct Report {
    service: &'static str,
    health: State,
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

async fn ask(place: &PlaceArgs, service: Service) -> Report {
    let late = || Status::deadline_exceeded(format!("no answer within {} s", PATIENCE.as_secs()));
    let socket = place.socket(service).display().to_string();
    let channel = place.channel(service);
    match timeout(PATIENCE, get_state(channel, service))
        .await
        .unwrap_or_else(|_| Err(late()))
    {
        Ok(state) => Report::of(service, socket, state.into_inner()),
        Err(status) => Report::down(service, socket, place.why(service, &status)),
    }
}

async fn get_state(channel: Channel, service: Service) -> Result<Response<ServiceState>, Status> {
    let request = GetStateRequest {};
    match service {
        Service::Interceptor => InterceptorClient::new(channel).get_state(request).await,
        Service::ProcessResolver => ProcessResolverClient::new(channel).get_state(request).await,
        Service::Policy => PolicyClient::new(channel).get_state(request).await,
    }
}

impl Report {
    fn of(service: Service, socket: String, state: ServiceState) -> Self {
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

    fn down(service: Service, socket: String, error: String) -> Self {
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

    fn text(&self, paint: Paint) -> String {
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

const COLUMNS: usize = 100;

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
