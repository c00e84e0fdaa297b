//! `portmaster check-host` beside the real thing: rules of others in the kernel, programs on queues and ports; and that what it
//! calls a clash is one.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what fails there fails the test"
)]

mod booted;
mod marks;
mod ports;
mod queues;
mod rules;

use std::process::{Command, Output};

use integration::{Namespace, binary};
use serde_json::Value;

/// What was said, and the exit status.
#[derive(Debug)]
struct Said {
    findings: Vec<Value>,
    status: Option<i32>,
}

impl Said {
    fn of(output: &Output) -> Self {
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        Self {
            findings: said.get("findings").unwrap().as_array().unwrap().clone(),
            status: output.status.code(),
        }
    }

    /// Level and code of each, the worst first.
    fn codes(&self) -> Vec<(&str, &str)> {
        self.findings
            .iter()
            .map(|finding| {
                (
                    finding["level"].as_str().unwrap(),
                    finding["code"].as_str().unwrap(),
                )
            })
            .collect()
    }

    /// The first of this code, whole.
    #[track_caller]
    fn text(&self, code: &str) -> String {
        let found = self.findings.iter().find(|finding| finding["code"] == code);
        found
            .unwrap_or_else(|| panic!("{code} is not among {self:#?}"))
            .to_string()
    }
}

/// Runs it in a namespace, with the settings of nobody.
fn check(host: &Namespace) -> Said {
    run(host.command(binary("portmaster")), &[])
}

fn run(mut command: Command, more: &[&str]) -> Said {
    command.args(["check-host", "--json"]).args(more);
    if more.is_empty() {
        command.args(["--config", "/nowhere"]);
    }
    Said::of(&command.output().unwrap())
}
