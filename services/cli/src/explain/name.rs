//! A name that the DNS service refuses: there is no connection to explain, but a query.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use proto::{
    dns::v1::{ExplainRequest, dns_client::DnsClient},
    flow::v1::{Process, Verdict},
};
use serde::Serialize;
use tonic::Code;

use super::{profile_of_process, target};
use crate::{
    args::ExplainArgs,
    paint::{Paint, Tone},
    place::Service,
    printable::printable,
    wire, words,
};

/// The same words as in the extended error of the refused answer (RFC 8914), and in `portmaster dns log`.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    verdict: &'static str,
    why: &'static str,
    rule: String,
    profile: String,
    /// The list whose name it is; "" where none.
    list: String,
    domain: String,
    /// What was tried, in order.
    steps: Vec<String>,
}

/// `None`: it would be answered, or nobody filters names here.
pub(super) async fn refused(args: &ExplainArgs, process: Option<&Process>) -> Result<Option<Refused>> {
    let place = &args.place;
    let Some(name) = target::asked_name(args).filter(|_| args.config.is_none()) else {
        return Ok(None);
    };
    if !place.socket(Service::Dns).exists() {
        return Ok(None);
    }
    let profile = profile_of_process(process.cloned(), place).await?;
    let request = ExplainRequest {
        name: name.clone(),
        kind: 0,
        profile: profile.clone(),
    };
    let reply = match DnsClient::new(place.channel(Service::Dns)).explain(request).await {
        // a service that is away says nothing about names; nor do words that are none, and get no answer anyway
        Err(status) if matches!(status.code(), Code::Unavailable | Code::InvalidArgument) => return Ok(None),
        reply => place.answer(Service::Dns, reply)?,
    };
    let decision = reply
        .decision
        .context("the dns service answered without a decision")?;
    if matches!(decision.verdict(), Verdict::Allow | Verdict::Tunnel) {
        return Ok(None);
    }
    Ok(Some(Refused {
        verdict: wire::verdict(decision.verdict()),
        why: wire::why(decision.why()),
        rule: decision.source,
        profile,
        list: reply.list,
        domain: name,
        steps: reply.steps,
    }))
}

impl Refused {
    /// ```text
    /// block  by shipped#block_lists (dns-list, list our-ads)
    ///     the name ads.example is refused when it is asked for, before there is an address; no profile
    ///     block: list "our-ads" has it, and shipped#block_lists filters by it
    /// ```
    pub(super) fn text(&self, paint: Paint) -> String {
        let verdict = paint.text(words::tone(self.verdict), self.verdict, 0);
        let list = match self.list.as_str() {
            "" => String::new(),
            list => format!(", list {}", printable(list)),
        };
        let profile = match self.profile.as_str() {
            "" => "no profile".to_owned(),
            profile => format!("profile {}", printable(profile)),
        };
        let mut text = format!(
            "{verdict}  by {} ({}{list})\n    the name {} is refused when it is asked for, before there is an address; {profile}\n",
            printable(&self.rule),
            self.why,
            printable(&self.domain),
        );
        for step in &self.steps {
            let _infallible = writeln!(text, "    {}", paint.text(Tone::Faint, printable(step), 0));
        }
        text
    }
}
