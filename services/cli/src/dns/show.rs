//! The commands that ask once: cache, flush, upstreams, lists, explain.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use proto::dns::v1::{
    ExplainRequest, FlushRequest, ListCacheRequest, ListListsRequest, ListUpstreamsRequest,
    OpenNetworkRequest, Opening, dns_client::DnsClient,
};
use serde_json::json;
use tonic::transport::Channel;

use super::{CacheArgs, ExplainArgs, FlushArgs, OpenArgs, PlainArgs, kind};
use crate::{
    clock, explain as policy,
    output::print,
    paint::{Paint, Tone},
    place::{PlaceArgs, Service},
    printable::{json_line, printable},
    table::{Cell, table},
    wire, words,
};

fn client(place: &PlaceArgs) -> DnsClient<Channel> {
    DnsClient::new(place.channel(Service::Dns))
}

pub(super) async fn cache(args: CacheArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = ListCacheRequest { zone: args.zone };
    let mut stream = place.answer(Service::Dns, client(place).list_cache(request).await)?;
    let mut entries = Vec::new();
    loop {
        let message = stream.message().await;
        match message.map_err(|status| place.unreachable(Service::Dns, &status))? {
            Some(part) => entries.extend(part.entries),
            None => break,
        }
    }
    if args.plain.json {
        let lines = entries.iter().map(|entry| {
            json_line(&json!({
                "name": entry.name, "type": kind::text(entry.kind), "code": kind::code(entry.code),
                "ttl": entry.ttl, "hits": entry.hits, "octets": entry.octets,
            }))
        });
        return print(&lines.collect::<Result<String, _>>()?);
    }
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            [
                Cell::plain(printable(&entry.name)),
                Cell::plain(kind::text(entry.kind)),
                Cell::plain(kind::code(entry.code)),
                if entry.ttl == 0 {
                    Cell::toned(Tone::Warning, "stale")
                } else {
                    Cell::plain(format!("{} s", entry.ttl))
                },
                Cell::plain(entry.hits.to_string()),
                Cell::plain(clock::octets(entry.octets.into())),
            ]
        })
        .collect();
    print(&table(
        ["NAME", "TYPE", "CODE", "HOLDS", "USED", "SIZE"],
        &rows,
        paint,
    ))
}

pub(super) async fn flush(args: FlushArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = FlushRequest {
        name: args.name.unwrap_or_default(),
        zone: args.zone,
    };
    let entries = place
        .answer(Service::Dns, client(place).flush(request).await)?
        .entries;
    if args.plain.json {
        return print(&json_line(&json!({ "entries": entries }))?);
    }
    print(&format!("forgotten: {entries}\n"))
}

pub(super) async fn upstreams(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).list_upstreams(ListUpstreamsRequest {}).await;
    let reply = place.answer(Service::Dns, reply)?;
    let (opening, left, upstreams) = (reply.opening(), reply.opening_left, reply.upstreams);
    let smoothed = |time: Option<&prost_types::Duration>| time.map(clock::microseconds);
    if args.json {
        let lines = upstreams.iter().map(|upstream| {
            json_line(&json!({
                "name": upstream.name, "source": upstream.source, "up": upstream.up, "zones": upstream.zones,
                "queries": upstream.queries, "failures": upstream.failures,
                "smoothed_us": smoothed(upstream.smoothed.as_ref()),
            }))
        });
        return print(&lines.collect::<Result<String, _>>()?);
    }
    let rows: Vec<_> = upstreams
        .iter()
        .map(|upstream| {
            let (tone, word) = if upstream.up {
                (Tone::Good, "up")
            } else {
                (Tone::Bad, "down")
            };
            let time = smoothed(upstream.smoothed.as_ref()).map(Duration::from_micros);
            [
                Cell::toned(tone, word),
                Cell::plain(printable(&upstream.name)),
                Cell::plain(printable(&upstream.source)),
                Cell::plain(upstream.queries.to_string()),
                Cell::plain(upstream.failures.to_string()),
                Cell::plain(time.map(clock::span).unwrap_or_default()),
                Cell::plain(printable(&upstream.zones.join(" "))),
            ]
        })
        .collect();
    let head = ["STATE", "SERVER", "FROM", "ASKED", "FAILED", "TIME", "ZONES"];
    print(&format!(
        "{}{}",
        opened(opening, left.as_ref(), paint),
        table(head, &rows, paint)
    ))
}

/// Where names go otherwise than the table says, a line above it.
fn opened(opening: Opening, left: Option<&prost_types::Duration>, paint: Paint) -> String {
    let text = match opening {
        Opening::Unspecified | Opening::Closed => return String::new(),
        Opening::Checks => {
            "a captive portal is suspected: the names by which systems look for one are asked at the network's own servers"
                .to_owned()
        }
        Opening::Everything => {
            let left = left.map(|left| clock::span(Duration::from_micros(clock::microseconds(left))));
            format!(
                "all names are asked at the network's own servers, for {} still",
                left.unwrap_or_default()
            )
        }
    };
    format!("{}\n", paint.text(Tone::Warning, text, 0))
}

/// A span of at most an hour; none ends it.
pub(super) fn opening(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(3600);
    if text == "0" || text == "0s" {
        return Ok(Duration::ZERO);
    }
    crate::pause::length(text)
        .ok()
        .filter(|time| *time <= LONGEST)
        .ok_or_else(|| "give a time of at most an hour: 90s, 5m or 1h; 0s ends it".to_owned())
}

pub(super) async fn open(args: OpenArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = OpenNetworkRequest {
        time: args.time.try_into().ok(),
    };
    place.answer(Service::Dns, client(place).open_network(request).await)?;
    if args.plain.json {
        return print(&json_line(&json!({ "open_s": args.time.as_secs() }))?);
    }
    print(&if args.time.is_zero() {
        "names are asked as configured\n".to_owned()
    } else {
        format!(
            "all names are asked at the network's own servers, in the clear, for {}; `portmaster dns open 0s` ends it\n",
            clock::span(args.time)
        )
    })
}

pub(super) async fn lists(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).list_lists(ListListsRequest {}).await;
    let lists = place.answer(Service::Dns, reply)?.lists;
    if args.json {
        let lines = lists.iter().map(|list| {
            json_line(&json!({
                "name": list.name, "categories": list.categories, "names": list.names, "garbage": list.garbage,
                "loaded": clock::rfc3339(list.loaded.as_ref()), "problem": list.problem,
            }))
        });
        return print(&lines.collect::<Result<String, _>>()?);
    }
    let rows: Vec<_> = lists
        .iter()
        .map(|list| {
            [
                Cell::plain(printable(&list.name)),
                Cell::plain(printable(&list.categories.join(" "))),
                Cell::plain(list.names.to_string()),
                Cell::plain(list.garbage.to_string()),
                Cell::toned(Tone::Faint, clock::rfc3339(list.loaded.as_ref())),
                Cell::toned(Tone::Bad, printable(&list.problem)),
            ]
        })
        .collect();
    let head = ["LIST", "CATEGORIES", "NAMES", "GARBAGE", "LOADED", "PROBLEM"];
    print(&table(head, &rows, paint))
}

pub(super) async fn explain(args: ExplainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.plain.place;
    let profile = match (args.app, args.profile) {
        (Some(program), _) => policy::profile_of(program, place).await?,
        (None, profile) => profile.unwrap_or_default(),
    };
    let request = ExplainRequest {
        name: args.name.clone(),
        kind: args.kind,
        profile: profile.clone(),
    };
    let reply = place.answer(Service::Dns, client(place).explain(request).await)?;
    let decision = reply
        .decision
        .context("the dns service answered without a decision")?;
    let (verdict, why) = (wire::verdict(decision.verdict()), wire::why(decision.why()));
    if args.plain.json {
        return print(&json_line(&json!({
            "name": args.name, "type": kind::text(args.kind), "profile": profile, "verdict": verdict, "why": why,
            "rule": decision.source, "list": reply.list, "steps": reply.steps,
        }))?);
    }
    let word = paint.text(words::tone(verdict), verdict, 0);
    let name = printable(&args.name);
    let rule = printable(&decision.source);
    let mut text = format!("{word}  {name} {}  {why} {rule}", kind::text(args.kind));
    if !reply.list.is_empty() {
        text += &format!("  list {}", printable(&reply.list));
    }
    text.push('\n');
    for step in &reply.steps {
        text += &format!("  {}\n", printable(step));
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Color;

    #[test]
    fn an_opening_is_short_or_none() {
        assert_eq!(opening("0s"), Ok(Duration::ZERO));
        assert_eq!(opening("1h"), Ok(Duration::from_secs(3600)));
        for wrong in ["61m", "24h", "", "5", "-1s", "ever"] {
            assert!(opening(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_goes_otherwise_is_said() {
        let paint = Paint::for_stdout(Color::Never);
        assert_eq!(opened(Opening::Closed, None, paint), "");
        assert!(opened(Opening::Checks, None, paint).contains("captive portal"));
        let left = prost_types::Duration {
            seconds: 90,
            nanos: 0,
        };
        let said = opened(Opening::Everything, Some(&left), paint);
        assert!(said.contains("for 1 min 30 s still"), "{said}");
    }
}
