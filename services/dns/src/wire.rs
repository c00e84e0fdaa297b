//! Queries as messages: gRPC and the desktop bus.

use std::{collections::HashMap, time::SystemTime};

use proto::{convert::octets, dns::v1 as wire, flow::v1 as flow};
use zbus::OwnedVariant;

use crate::{
    log::{Origin, Place, Query},
    route::Set,
    upstream::Standing,
};

/// Addresses in one message.
const MOST_ADDRESSES: usize = 16;

impl From<Origin> for wire::Origin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Refused => Self::Refused,
            Origin::Cache => Self::Cache,
            Origin::Stale => Self::Stale,
            Origin::Upstream => Self::Upstream,
            Origin::Special => Self::Special,
            Origin::Failed => Self::Failed,
        }
    }
}

/// A place in the log.
pub const fn position(place: Place) -> wire::QueryPosition {
    wire::QueryPosition {
        numbering: place.numbering,
        sequence: place.sequence,
    }
}

/// `id`: its number.
pub fn query(id: u64, query: &Query) -> wire::Query {
    wire::Query {
        id,
        time: Some(query.time.into()),
        process: query.matter.asker.process.as_deref().map(Into::into),
        uid: query.matter.asker.uid,
        name: query.matter.name.to_string(),
        kind: query.kind.into(),
        code: query.code.into(),
        addresses: query
            .matter
            .addresses
            .iter()
            .take(MOST_ADDRESSES)
            .map(|address| octets(*address))
            .collect(),
        origin: wire::Origin::from(query.origin).into(),
        upstream: query.upstream.as_deref().unwrap_or_default().to_owned(),
        decision: Some((&query.matter.judged.decision).into()),
        list: query.matter.judged.list.as_deref().unwrap_or_default().to_owned(),
        took: query.took.try_into().ok(),
        tcp: query.tcp,
        redirected: query.matter.asker.redirected,
    }
}

/// For `QueriesAnswered`.
pub fn bus_query(id: u64, query: &Query) -> dbus::DnsQuery {
    let process = query.matter.asker.process.as_deref();
    let executable = process.map(|process| {
        let executable = &process.executable;
        executable.path.as_ref().unwrap_or(&executable.claimed_path)
    });
    let decision = &query.matter.judged.decision;
    dbus::DnsQuery {
        id,
        time: microseconds(query.time),
        pid: process.map_or(0, |process| process.pid),
        uid: query.matter.asker.uid.unwrap_or(u32::MAX),
        executable: executable
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        profile: decision.profile.to_string(),
        name: query.matter.name.to_string(),
        kind: query.kind,
        code: query.code,
        addresses: query
            .matter
            .addresses
            .iter()
            .take(MOST_ADDRESSES)
            .map(|address| octets(*address))
            .collect(),
        origin: number(wire::Origin::from(query.origin)),
        upstream: query.upstream.as_deref().unwrap_or_default().to_owned(),
        verdict: number(flow::Verdict::from(decision.verdict)),
        why: number(flow::Why::from(decision.why)),
        why_text: decision.why.text().to_owned(),
        rule: decision.source.to_string(),
        list: query.matter.judged.list.as_deref().unwrap_or_default().to_owned(),
        took: u64::try_from(query.took.as_micros()).unwrap_or(u64::MAX),
        extra: extra(query),
    }
}

/// What the signal has no place for.
fn extra(query: &Query) -> HashMap<String, OwnedVariant> {
    let says = [("tcp", query.tcp), ("redirected", query.matter.asker.redirected)];
    let said = says.into_iter().filter(|(_, says)| *says);
    said.map(|(word, says)| (word.to_owned(), OwnedVariant::from(says)))
        .collect()
}

fn number(value: impl Into<i32>) -> u32 {
    u32::try_from(value.into()).unwrap_or(0)
}

/// The upstreams of a set, as on the bus.
pub fn bus_upstreams(set: &Set) -> impl Iterator<Item = dbus::DnsUpstream> {
    set.upstreams.iter().map(|state| dbus::DnsUpstream {
        name: state.label.to_string(),
        source: set.source.to_owned(),
        up: state.standing == Standing::Up,
        zones: set.zones.clone(),
        queries: state.asked,
        failures: state.failed,
        round_trip: state
            .rtt
            .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        extra: HashMap::new(),
    })
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
