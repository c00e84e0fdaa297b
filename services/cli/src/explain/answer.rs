//! What would happen to one connection, as JSON and as text.

use std::fmt::Write as _;

use proto::flow::v1 as wire_flow;
use serde::Serialize;
use verdict::Protocol;

use super::Question;
use crate::{
    event_json::{EventJson, ProcessJson},
    paint::{Paint, Tone},
    printable::{command_line, printable},
    wire, words,
};

/// What would happen, and why.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    verdict: String,
    why: String,
    rule: String,
    profile: String,
    permanent: bool,
    policy_version: u64,
    /// What was tried before, in order.
    steps: Vec<String>,
    direction: &'static str,
    protocol: String,
    remote: String,
    /// The remote port; for an incoming connection the local one.
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    scope: &'static str,
    domain: String,
    process: Option<ProcessJson>,
}

impl Answer {
    pub(super) fn new(
        question: Question,
        decision: wire_flow::Decision,
        policy_version: u64,
        steps: Vec<String>,
    ) -> Self {
        let Question {
            process,
            flow,
            domain,
        } = question;
        let asked = if flow.direction == verdict::Direction::Incoming {
            flow.local
        } else {
            flow.remote
        };
        Self {
            verdict: wire::verdict(decision.verdict()).to_owned(),
            why: wire::why(decision.why()).to_owned(),
            rule: decision.source,
            profile: decision.profile,
            permanent: decision.permanent,
            policy_version,
            steps,
            direction: flow.direction.text(),
            protocol: flow
                .protocol
                .name()
                .map_or_else(|| flow.protocol.0.to_string(), str::to_owned),
            remote: flow.remote.address.to_string(),
            port: Protocol::has_ports(flow.protocol).then_some(asked.port),
            icmp_type: flow.icmp_type(),
            scope: flow.scope().text(),
            domain,
            process: process.map(ProcessJson::from),
        }
    }

    /// ```text
    /// block  by curl#2 (rule)
    ///     /usr/bin/curl, uid 1000 → example.com:443 (93.184.216.34), tcp, internet, profile curl
    ///     curl#1: other remote
    /// ```
    pub(super) fn text(&self, paint: Paint) -> String {
        let verdict = paint.text(words::tone(&self.verdict), self.verdict.as_str(), 0);
        let rule = if self.rule.is_empty() {
            String::new()
        } else {
            format!("by {} ", printable(&self.rule))
        };
        let mut text = format!("{verdict}  {rule}({})\n    {}\n", self.why, self.connection());
        for step in &self.steps {
            let _infallible = writeln!(text, "    {}", paint.text(Tone::Faint, printable(step), 0));
        }
        text
    }

    fn connection(&self) -> String {
        let incoming = self.direction == "in";
        let profile = if self.profile.is_empty() {
            "no profile".to_owned()
        } else {
            format!("profile {}", printable(&self.profile))
        };
        let remote = words::remote(&EventJson {
            direction: self.direction.to_owned(),
            remote: self.remote.clone(),
            remote_port: if incoming { None } else { self.port },
            icmp_type: self.icmp_type,
            domain: self.domain.clone(),
            ..EventJson::default()
        });
        let port = match self.port {
            Some(port) if incoming => format!(" :{port}"),
            _ => String::new(),
        };
        format!(
            "{}{port} {remote}, {}, {}, {profile}",
            self.program(),
            self.protocol,
            self.scope
        )
    }

    fn program(&self) -> String {
        let Some(process) = &self.process else {
            return "a process that cannot be found".to_owned();
        };
        let uid = process.uid;
        if process.pid != 0 {
            let arguments = command_line(&process.cmdline, 100);
            return format!("{} ({arguments}), uid {uid}", words::process_name(process));
        }
        let file = [&process.script, &process.path]
            .into_iter()
            .find(|path| !path.is_empty());
        let group = &process.cgroup;
        let names = [
            &group.unit,
            &group.flatpak,
            &group.snap,
            &group.container,
            &group.path,
        ];
        let name = file.or_else(|| names.into_iter().find(|name| !name.is_empty()));
        format!(
            "{}, uid {uid}",
            name.map_or("any program".into(), |name| printable(name))
        )
    }
}
