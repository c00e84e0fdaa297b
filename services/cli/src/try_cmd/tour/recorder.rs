//! The live table: what the firewall says, as it says it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use proto::interceptor::v1::{ConnectionEvents, WatchEventsRequest, interceptor_client::InterceptorClient};
use tokio::task::JoinHandle;
use tonic::{Streaming, transport::Channel};

use crate::{
    args::Color,
    event_json::{EventJson, Kind},
    paint::{Paint, Tone},
    printable::printable,
};

/// Prints each event and keeps it.
pub(super) struct Recorder {
    seen: Arc<Mutex<Vec<EventJson>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    pub(super) async fn start(channel: Channel) -> Result<Self> {
        let mut client = InterceptorClient::new(channel);
        let stream = client
            .watch_events(WatchEventsRequest {
                include_live: true,
                resume_after: None,
            })
            .await;
        let stream = stream.context("follow the events")?.into_inner();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(record(stream, Arc::clone(&seen)));
        Ok(Self { seen, task })
    }

    /// How many there are so far.
    pub(super) fn count(&self) -> usize {
        lock(&self.seen).len()
    }

    /// The first one since `from` that `wanted` accepts.
    pub(super) fn find(&self, from: usize, wanted: impl Fn(&EventJson) -> bool) -> Option<EventJson> {
        lock(&self.seen)
            .iter()
            .skip(from)
            .find(|event| wanted(event))
            .cloned()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[expect(clippy::print_stdout, reason = "the tour is there to be read")]
async fn record(mut stream: Streaming<ConnectionEvents>, seen: Arc<Mutex<Vec<EventJson>>>) {
    let paint = Paint::for_stdout(Color::Auto);
    while let Ok(Some(batch)) = stream.message().await {
        for event in batch.events {
            let event = EventJson::from(event);
            if event.kind != Kind::Ended {
                println!("{}", row(&event, paint));
            }
            lock(&seen).push(event);
        }
    }
}

/// What stands where in a [`row`].
pub(super) fn head() -> String {
    format!(
        "{:<18}   {:<6} {:<26} {:<7} {}",
        "APP", "PROTO", "REMOTE", "VERDICT", "WHY"
    )
}

/// App, direction, protocol, other end, verdict, why.
fn row(event: &EventJson, paint: Paint) -> String {
    let tone = match event.verdict.as_str() {
        "allow" => Tone::Good,
        "block" | "drop" => Tone::Bad,
        _ => Tone::Special,
    };
    let app = app(event);
    let arrow = if event.direction == "in" { "←" } else { "→" };
    let remote = match (event.remote_port, event.remote.contains(':')) {
        (Some(port), true) => format!("[{}]:{port}", event.remote),
        (Some(port), false) => format!("{}:{port}", event.remote),
        (None, _) => event.remote.clone(),
    };
    let verdict = paint.text(tone, event.verdict.as_str(), 7);
    let again = if event.kind == Kind::Redecided {
        " (decided anew)"
    } else {
        ""
    };
    format!(
        "    {:<18} {arrow} {:<6} {:<26} {verdict} {}{again}",
        printable(&app),
        event.protocol,
        remote,
        printable(&format!("{} {}", event.why, event.rule)),
    )
}

fn app(event: &EventJson) -> String {
    let Some(process) = &event.process else {
        return format!("unknown ({})", event.miss);
    };
    let name = process
        .path
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or(&process.comm);
    format!("{name} {}", process.pid)
}

fn lock(seen: &Mutex<Vec<EventJson>>) -> MutexGuard<'_, Vec<EventJson>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
