//! A query of the log, as JSON and as a line for people.

use proto::dns::v1::{Origin, Query};
use serde::Serialize;

use super::kind;
use crate::{
    clock,
    event_json::ProcessJson,
    paint::{Paint, Tone},
    printable::printable,
    wire, words,
};

/// One query. Texts are "" where the service does not say.
#[derive(Debug, Serialize)]
pub(super) struct QueryJson {
    pub(super) id: u64,
    /// RFC 3339.
    time: String,
    pub(super) process: Option<ProcessJson>,
    uid: Option<u32>,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    code: String,
    addresses: Vec<String>,
    pub(super) origin: &'static str,
    upstream: String,
    pub(super) verdict: &'static str,
    why: &'static str,
    rule: String,
    profile: String,
    list: String,
    /// Microseconds.
    took_us: u64,
    tcp: bool,
    redirected: bool,
}

impl From<Query> for QueryJson {
    fn from(query: Query) -> Self {
        let origin = origin(query.origin());
        let decision = query.decision.unwrap_or_default();
        Self {
            id: query.id,
            time: clock::rfc3339(query.time.as_ref()),
            process: query.process.map(ProcessJson::from),
            uid: query.uid,
            name: query.name,
            kind: kind::text(query.kind),
            code: kind::code(query.code),
            addresses: query
                .addresses
                .iter()
                .map(|bytes| wire::address_text(bytes))
                .collect(),
            origin,
            upstream: query.upstream,
            verdict: wire::verdict(decision.verdict()),
            why: wire::why(decision.why()),
            rule: decision.source,
            profile: decision.profile,
            list: query.list,
            took_us: query.took.as_ref().map(clock::microseconds).unwrap_or_default(),
            tcp: query.tcp,
            redirected: query.redirected,
        }
    }
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Unspecified => "",
        Origin::Refused => "refused",
        Origin::Cache => "cache",
        Origin::Stale => "stale",
        Origin::Upstream => "upstream",
        Origin::Special => "special",
        Origin::Failed => "failed",
    }
}

impl QueryJson {
    /// `14:03:59.125  allow  curl[1234]  example.com  A  192.0.2.7  cache  default-action global#x  0.1 ms`
    pub(super) fn text(&self, paint: Paint) -> String {
        let time = paint.text(Tone::Faint, clock::time_of_day(&self.time), 12);
        let verdict = if self.verdict.is_empty() {
            "?"
        } else {
            self.verdict
        };
        let verdict = paint.text(words::tone(self.verdict), verdict, 6);
        let app = self.app();
        let answer = if self.addresses.is_empty() {
            self.code.clone()
        } else {
            self.addresses.join(" ")
        };
        let reason: Vec<_> = [self.why, &self.rule, &self.list, &self.upstream]
            .into_iter()
            .filter(|text| !text.is_empty())
            .map(printable)
            .collect();
        let reason = paint.text(Tone::Faint, reason.join(" "), 0);
        let took = clock::span(std::time::Duration::from_micros(self.took_us));
        let (name, kind, origin) = (printable(&self.name), &self.kind, self.origin);
        format!(
            "{time}  {verdict}  {app:<24}  {name:<40}  {kind:<5}  {origin:<8}  {answer:<32}  {took:>8}  {reason}\n"
        )
    }

    fn app(&self) -> String {
        match (&self.process, self.uid) {
            (Some(process), _) => words::process_name(process),
            (None, Some(uid)) => format!("? uid {uid}"),
            (None, None) => "?".to_owned(),
        }
    }
}
