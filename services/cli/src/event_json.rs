//! A connection event as people's programs get it: one JSON object, described in `docs/events.md`.
//!
//! Field names and words are stable: additions only. A string that is not known is "", a number that is not known or does
//! not apply is null. Words of a newer service that this program does not know yet become "".

mod process;

use proto::interceptor::v1::{Connection, ConnectionEvent, EventKind};
use serde::{Deserialize, Serialize};
use verdict::Protocol;

use crate::{clock, printable::json_line, wire};
pub use process::ProcessJson;

/// What an event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Said by a service that is newer than this program.
    #[default]
    #[serde(rename = "")]
    Unknown,
    /// A new connection was decided.
    Decided,
    /// A live connection was decided anew.
    Redecided,
    /// It ended.
    Ended,
    /// No event: an entry in a list of live connections.
    Live,
}

/// One connection at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventJson {
    /// What happened.
    pub kind: Kind,
    /// The connection: unique as long as the host runs.
    pub id: u64,
    /// When it happened: RFC 3339, UTC, microseconds.
    pub time: String,
    /// When the connection began, likewise.
    pub started: String,
    /// `out` or `in`.
    pub direction: String,
    /// `tcp`, `udp`, …; the IANA number where it has no name here.
    pub protocol: String,
    /// This host's address.
    pub local: String,
    /// Its port.
    pub local_port: Option<u16>,
    /// The other end's address.
    pub remote: String,
    /// Its port.
    pub remote_port: Option<u16>,
    /// ICMP and ICMPv6 alone: type of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP and ICMPv6 alone: its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// ICMP and ICMPv6 alone: identifier of a query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// `localhost`, `lan`, `internet`, `multicast`.
    pub scope: String,
    /// Whose it is; null where that is not known.
    pub process: Option<ProcessJson>,
    /// Why the process is not known: `no-socket`, `no-process`, `timeout`.
    pub miss: String,
    /// Owner of the socket.
    pub uid: Option<u32>,
    /// Profile that was applied; "" for the global settings alone.
    pub profile: String,
    /// Name that the connection was decided by.
    pub domain: String,
    /// `allow`, `block`, `drop`, `tunnel`, `redirect-dns`.
    pub verdict: String,
    /// Stable word.
    pub why: String,
    /// `file#number` or `file#setting`.
    pub rule: String,
    /// Holds for the whole connection.
    pub permanent: bool,
    /// Where it is tunnelled: ids of the nodes, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<String>,
    /// Why Gate17 does not carry it, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tunnel_problem: String,
    /// At the end: octets that this host sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    /// At the end: packets that this host sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_packets: Option<u64>,
    /// At the end: octets that this host received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// At the end: packets that this host received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_packets: Option<u64>,
    /// At the end: how long it lived, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
}

impl EventJson {
    /// The object on one line, with the line feed.
    pub fn to_line(&self) -> String {
        // Nothing in here is a map: this cannot fail.
        json_line(self).unwrap_or_default()
    }

    /// A live connection, not an event: `time` is when it began.
    pub fn live(connection: Connection) -> Self {
        let mut entry = Self::of(connection);
        entry.kind = Kind::Live;
        entry.time = entry.started.clone();
        entry
    }

    fn of(connection: Connection) -> Self {
        let scope = wire::scope(connection.scope());
        let miss = if connection.process.is_none() {
            wire::miss(connection.miss())
        } else {
            ""
        };
        let mut event = Self {
            id: connection.id,
            started: clock::rfc3339(connection.started.as_ref()),
            scope: scope.to_owned(),
            miss: miss.to_owned(),
            uid: connection
                .uid
                .or(connection.process.as_ref().map(|process| process.uid)),
            domain: connection.domain,
            hops: connection.hops,
            tunnel_problem: connection.tunnel_problem,
            process: connection.process.map(ProcessJson::from),
            ..Self::default()
        };
        event.set_flow(&connection.flow.unwrap_or_default());
        event.set_decision(connection.decision.unwrap_or_default());
        event.set_totals(connection.totals);
        event
    }

    fn set_flow(&mut self, flow: &proto::flow::v1::Flow) {
        let protocol = wire::protocol(flow.protocol);
        self.direction = wire::direction(flow.direction()).to_owned();
        self.protocol = protocol
            .and_then(Protocol::name)
            .map_or_else(|| flow.protocol.to_string(), str::to_owned);
        self.local = wire::address_text(&flow.local_address);
        self.remote = wire::address_text(&flow.remote_address);
        let (local, remote) = (
            u16::try_from(flow.local_port).ok(),
            u16::try_from(flow.remote_port).ok(),
        );
        if protocol.is_some_and(Protocol::is_icmp) {
            let [kind, code] = remote.unwrap_or_default().to_be_bytes();
            (self.icmp_type, self.icmp_code, self.icmp_id) = (Some(kind), Some(code), local);
        } else if protocol.is_some_and(Protocol::has_ports) {
            (self.local_port, self.remote_port) = (local, remote);
        }
    }

    fn set_decision(&mut self, decision: proto::flow::v1::Decision) {
        self.verdict = wire::verdict(decision.verdict()).to_owned();
        self.why = wire::why(decision.why()).to_owned();
        self.rule = decision.source;
        self.profile = decision.profile;
        self.permanent = decision.permanent;
    }

    fn set_totals(&mut self, totals: Option<proto::interceptor::v1::Totals>) {
        let Some(totals) = totals else { return };
        self.sent_bytes = Some(totals.sent_bytes);
        self.sent_packets = Some(totals.sent_packets);
        self.received_bytes = Some(totals.received_bytes);
        self.received_packets = Some(totals.received_packets);
        self.duration_us = totals.duration.map(|duration| clock::microseconds(&duration));
    }
}

impl From<ConnectionEvent> for EventJson {
    fn from(event: ConnectionEvent) -> Self {
        let kind = match event.kind() {
            EventKind::Decided => Kind::Decided,
            EventKind::Redecided => Kind::Redecided,
            EventKind::Ended => Kind::Ended,
            EventKind::Unspecified => Kind::Unknown,
        };
        let time = clock::rfc3339(event.time.as_ref());
        Self {
            kind,
            time,
            ..Self::of(event.connection.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests;
