//! `portmaster connections`: what is live now.

use std::process::ExitCode;

use anyhow::Result;
use proto::interceptor::v1::{ListConnectionsRequest, interceptor_client::InterceptorClient};

use crate::{
    args::{ConnectionsArgs, SortKey},
    clock,
    event_json::EventJson,
    output::print,
    paint::{Paint, Tone},
    place::Service,
    table::{Cell, table},
    words,
};

const HEAD: [&str; 7] = ["SINCE", "VERDICT", "WAY", "PROGRAM", "REMOTE", "PROFILE", "WHY"];

/// Prints them once.
pub(crate) async fn run(args: ConnectionsArgs, paint: Paint) -> Result<ExitCode> {
    let mut connections = list(&args).await?;
    sort(&mut connections, args.sort);
    if args.reverse {
        connections.reverse();
    }
    if args.json {
        return print(&connections.iter().map(EventJson::to_line).collect::<String>());
    }
    let rows: Vec<_> = connections.iter().map(row).collect();
    print(&table(HEAD, &rows, paint))
}

async fn list(args: &ConnectionsArgs) -> Result<Vec<EventJson>> {
    let mut client = InterceptorClient::new(args.place.channel(Service::Interceptor));
    let reply = client.list_connections(ListConnectionsRequest {}).await;
    let mut stream = args.place.answer(Service::Interceptor, reply)?;
    let mut found = Vec::new();
    loop {
        let message = stream.message().await;
        let Some(part) = message.map_err(|status| args.place.unreachable(Service::Interceptor, &status))?
        else {
            return Ok(found);
        };
        let entries = part.connections.into_iter().map(EventJson::live);
        found.extend(entries.filter(|entry| args.filter.matches(entry)));
    }
}

/// Stable: entries with the same key stay in the order of their beginning.
fn sort(connections: &mut [EventJson], key: SortKey) {
    connections.sort_by(|a, b| a.time.cmp(&b.time).then(a.id.cmp(&b.id)));
    match key {
        SortKey::Time => {}
        SortKey::App => connections.sort_by_cached_key(|entry| {
            let process = entry.process.as_ref();
            (
                process.is_none(),
                process.map(|process| (process.label().to_lowercase(), process.pid)),
            )
        }),
        SortKey::Remote => connections.sort_by_cached_key(|entry| {
            let address = entry.remote.parse::<std::net::IpAddr>().ok();
            (
                entry.domain.is_empty(),
                entry.domain.clone(),
                address,
                entry.remote_port,
            )
        }),
        SortKey::Verdict => connections.sort_by(|a, b| a.verdict.cmp(&b.verdict)),
        SortKey::Profile => connections.sort_by(|a, b| a.profile.cmp(&b.profile)),
    }
}

fn row(entry: &EventJson) -> [Cell; 7] {
    let (tone, word) = words::fate(entry);
    [
        Cell::toned(Tone::Faint, clock::time_of_day(&entry.started)),
        Cell::toned(tone, word),
        Cell::plain(format!("{} {}", entry.direction, entry.protocol)),
        Cell::plain(words::app(entry)),
        Cell::plain(words::remote(entry)),
        Cell::plain(crate::printable::printable(&entry.profile)),
        Cell::toned(Tone::Faint, words::reason(entry)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_json::ProcessJson;

    fn entry(id: u64, time: &str, app: Option<&str>, remote: &str, domain: &str) -> EventJson {
        let process = app.map(|comm| ProcessJson {
            comm: comm.to_owned(),
            ..ProcessJson::default()
        });
        let (time, remote, domain) = (time.to_owned(), remote.to_owned(), domain.to_owned());
        EventJson {
            id,
            time,
            process,
            remote,
            domain,
            ..EventJson::default()
        }
    }

    #[test]
    fn sorting_puts_what_is_not_known_last() {
        let mut entries = vec![
            entry(1, "3", None, "10.0.0.10", ""),
            entry(2, "2", Some("Wget"), "10.0.0.9", ""),
            entry(3, "1", Some("curl"), "10.0.0.1", "b.example"),
            entry(4, "1", Some("curl"), "10.0.0.1", "a.example"),
        ];
        let mut order = |key| {
            sort(&mut entries, key);
            entries.iter().map(|entry| entry.id).collect::<Vec<_>>()
        };
        assert_eq!(order(SortKey::Time), [3, 4, 2, 1]);
        assert_eq!(order(SortKey::App), [3, 4, 2, 1]);
        assert_eq!(order(SortKey::Remote), [4, 3, 2, 1]);
        assert_eq!(order(SortKey::Verdict), [3, 4, 2, 1]);
    }
}
