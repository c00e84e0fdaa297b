//! What scenes act with: programs behind the firewall, and what must have been said about them.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    process::Command,
    time::{sleep, timeout},
};

use super::{Cast, Recorder, World, write_profile};
use crate::{
    args::Color,
    event_json::EventJson,
    paint::{Paint, Tone},
    try_cmd::world,
};

/// No program of the tour takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// An error within this time came at once: the network's own time-outs are minutes.
pub(super) const AT_ONCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) cast: Cast,
    recorder: Recorder,
    from: usize,
    passed: usize,
    failed: usize,
    paint: Paint,
}

/// How a program ended.
pub(super) struct Outcome {
    pub(super) success: bool,
    /// Standard output and error.
    pub(super) text: String,
    pub(super) took: Duration,
}

/// An event that must come.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The program's file; `None`: a process that is not known.
    pub(super) app: Option<&'a Path>,
    pub(super) direction: &'a str,
    pub(super) remote: &'a str,
    pub(super) verdict: &'a str,
}

impl<'a> Stage<'a> {
    pub(super) fn new(world: &'a World, cast: Cast, recorder: Recorder) -> Self {
        Self {
            world,
            cast,
            recorder,
            from: 0,
            passed: 0,
            failed: 0,
            paint: Paint::for_stdout(Color::Auto),
        }
    }

    /// (passed, failed)
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.passed, self.failed)
    }

    /// Begins a scene: events count from here on.
    #[expect(clippy::print_stdout, reason = "the tour is there to be read")]
    pub(super) fn scene(&mut self, title: &str) {
        self.from = self.recorder.count();
        println!("\n{}", self.paint.text(Tone::Title, title, 0));
    }

    /// Says whether something came out as it should.
    #[expect(clippy::print_stdout, reason = "the tour is there to be read")]
    pub(super) fn check(&mut self, came_out: bool, what: &str) {
        let sign = if came_out {
            self.paint.text(Tone::Good, "✓", 0)
        } else {
            self.paint.text(Tone::Bad, "✗", 0)
        };
        println!("  {sign} {what}");
        if came_out {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// A program behind the firewall, to its end.
    pub(super) async fn inside(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Outcome> {
        finish(self.world.command(program)?.args(arguments)).await
    }

    /// A program out on the internet, to its end.
    pub(super) async fn outside(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Outcome> {
        finish(world::inside(&self.world.internet(), program).args(arguments)).await
    }

    /// Whether the firewall said so within a moment.
    pub(super) async fn said(&mut self, wanted: Wanted<'_>) {
        let found = self.found(|event| fits(event, wanted)).await;
        let who = wanted
            .app
            .map_or_else(|| "an unknown process".into(), |path| path.to_string_lossy());
        let what = format!(
            "reported: {who}, {} {}, {}",
            wanted.direction, wanted.remote, wanted.verdict
        );
        match found {
            Some(event) => self.check(true, &format!("{what}, because of {} {}", event.why, event.rule)),
            None => self.check(false, &what),
        }
    }

    /// The first event since the scene began that `wanted` accepts, if it comes within a moment.
    pub(super) async fn found(&self, wanted: impl Fn(&EventJson) -> bool) -> Option<EventJson> {
        let start = Instant::now();
        loop {
            let found = self.recorder.find(self.from, &wanted);
            if found.is_some() || start.elapsed() > AT_ONCE * 5 {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Puts a profile in force, in place of the one of that id.
    pub(super) fn profile(&self, id: &str, text: &str) -> Result<()> {
        write_profile(&self.world.folder().join("etc/portmaster"), id, text)
    }

    /// Asks again and again, for a while.
    pub(super) async fn until(&self, mut ask: impl AsyncFnMut() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if ask().await {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

fn fits(event: &EventJson, wanted: Wanted<'_>) -> bool {
    let app = match (&event.process, wanted.app) {
        (Some(process), Some(path)) => Path::new(&process.path) == path,
        (None, None) => true,
        _ => false,
    };
    app && event.direction == wanted.direction
        && event.remote == wanted.remote
        && event.verdict == wanted.verdict
}

async fn finish(command: &mut Command) -> Result<Outcome> {
    let start = Instant::now();
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await;
    let Ok(output) = output else {
        return Ok(Outcome {
            success: false,
            text: "it did not end".to_owned(),
            took: start.elapsed(),
        });
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.with_context(|| format!("run {:?}", command.as_std()))?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Ok(Outcome {
        success: status.success(),
        text: text.trim().to_owned(),
        took: start.elapsed(),
    })
}
