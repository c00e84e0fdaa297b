//! `portmaster dns log`: queries as they are answered, until it is stopped or nobody reads any more.

use std::process::ExitCode;

use anyhow::{Context, Result};
use proto::dns::v1::{QueryEvents, WatchQueriesRequest, dns_client::DnsClient};
use tokio::signal::unix::{SignalKind, signal};

use super::{LogArgs, kind, query::QueryJson};
use crate::{
    filter,
    output::{Output, Writer},
    paint::Paint,
    place::Service,
    printable::json_line,
};

pub(super) async fn run(args: LogArgs, paint: Paint) -> Result<ExitCode> {
    let listen = |kind| signal(kind).context("listen to signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut output = Output::start()?;
    let writer = output.writer();
    let result = tokio::select! {
        result = follow(&args, paint, &writer) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = output.reader_left() => Ok(()),
    };
    drop(writer);
    let finished = output.finish().await;
    result.and(finished)
}

/// Ends without an error when nobody reads any more; with one when the service goes away.
async fn follow(args: &LogArgs, paint: Paint, writer: &Writer) -> Result<()> {
    let mut client = DnsClient::new(args.place.channel(Service::Dns));
    let request = WatchQueriesRequest {
        include_recent: args.recent || args.once,
        resume_after: None,
        until_now: args.once,
    };
    let mut stream = args
        .place
        .answer(Service::Dns, client.watch_queries(request).await)?;
    loop {
        let message = stream.message().await;
        let message = message.map_err(|status| args.place.unreachable(Service::Dns, &status))?;
        let batch = match message {
            None if args.once => return Ok(()),
            batch => batch.context("the dns service stopped: `portmaster status` tells more")?,
        };
        let text = render(args, paint, batch)?;
        if !text.is_empty() && !writer.send(text).await {
            return Ok(());
        }
    }
}

fn render(args: &LogArgs, paint: Paint, batch: QueryEvents) -> Result<String> {
    if batch.dropped > 0 {
        eprintln!(
            "portmaster: {} queries are missing here: they came faster than they were read",
            batch.dropped
        );
    }
    let mut text = String::new();
    for query in batch.queries.into_iter().map(QueryJson::from) {
        if !wants(args, &query) {
            continue;
        }
        text += &if args.json {
            json_line(&query)?
        } else {
            query.text(paint)
        };
    }
    Ok(text)
}

fn wants(args: &LogArgs, query: &QueryJson) -> bool {
    let is_app = |text: &String| {
        query
            .process
            .as_ref()
            .is_some_and(|process| filter::is_process(process, text))
    };
    filter::any(&args.app, is_app)
        && filter::any(&args.domain, |pattern| pattern.matches(&query.name))
        && filter::any(&args.verdict, |verdict| verdict.text() == query.verdict)
        && filter::any(&args.kind, |kind| kind::text(*kind) == query.kind)
        && filter::any(&args.origin, |origin| origin.text() == query.origin)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use proto::{
        dns::v1::{Origin, Query},
        flow::v1::{Decision, Process, Verdict},
    };

    use super::*;
    use crate::args::Color;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        log: LogArgs,
    }

    fn shown(words: &[&str]) -> String {
        let query = |id, app: &str, name: &str, verdict: Verdict| Query {
            id,
            process: Some(Process {
                pid: 7,
                comm: app.to_owned(),
                ..Process::default()
            }),
            name: name.to_owned(),
            kind: if app == "curl" { 28 } else { 1 },
            addresses: vec![vec![192, 0, 2, 7]],
            origin: if app == "curl" {
                Origin::Cache
            } else {
                Origin::Refused
            }
            .into(),
            decision: Some(Decision {
                verdict: verdict.into(),
                ..Decision::default()
            }),
            ..Query::default()
        };
        let queries = vec![
            query(1, "curl", "www.example.com", Verdict::Allow),
            query(2, "wget", "evil\u{1b}[2J.test", Verdict::Block),
        ];
        let words = ["log"].iter().chain(words);
        let args = Line::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{error}"))
            .log;
        let batch = QueryEvents {
            queries,
            ..QueryEvents::default()
        };
        render(&args, Paint::for_stdout(Color::Never), batch).unwrap()
    }

    #[test]
    fn options_narrow_what_is_shown() {
        assert_eq!(shown(&[]).lines().count(), 2);
        for words in [
            ["--app", "CURL"],
            ["--domain", "*.example.com"],
            ["--verdict", "allow"],
            ["--type", "aaaa,https"],
            ["--origin", "cache,stale"],
        ] {
            let text = shown(&words);
            assert_eq!(text.lines().count(), 1, "{words:?}");
            assert!(text.contains("curl[7]") && text.contains("192.0.2.7"), "{text}");
        }
        assert_eq!(shown(&["--domain", "example.com"]), "");
        assert_eq!(
            shown(&["--type", "AAAA", "--origin", "refused"]),
            "",
            "they narrow each other"
        );
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert!(!shown(&[]).contains('\u{1b}') && !shown(&["--json"]).contains('\u{1b}'));
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = shown(&["--json", "--app", "curl"]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["type"], "AAAA");
        assert_eq!(value["origin"], "cache");
        assert_eq!(value["addresses"][0], "192.0.2.7");
    }
}
