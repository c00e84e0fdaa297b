//! Domain to wire: what gRPC subscribers and the desktop bus read.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::SystemTime};

use proto::{
    convert,
    flow::v1 as flow,
    interceptor::v1::{self as v1, ConnectionEvent},
    resolver::v1::Miss as WireMiss,
};
use zbus::{OwnedVariant, Variant};

use crate::judge::{Attribution, Connection, Event, EventKind, Miss, Through, Totals};

/// An event.
pub fn event(event: &Event) -> ConnectionEvent {
    ConnectionEvent {
        kind: kind(event.kind).into(),
        time: Some(event.time.into()),
        connection: Some(connection(&event.connection)),
    }
}

/// A live connection, as if it were new.
pub fn live(live: &Connection) -> ConnectionEvent {
    ConnectionEvent {
        kind: v1::EventKind::Decided.into(),
        time: Some(live.started.into()),
        connection: Some(connection(live)),
    }
}

/// A connection.
pub fn connection(connection: &Connection) -> v1::Connection {
    v1::Connection {
        id: connection.id,
        flow: Some(connection.flow.into()),
        scope: flow::Scope::from(connection.scope).into(),
        started: Some(connection.started.into()),
        process: connection.who.process.as_deref().map(Into::into),
        miss: connection.who.miss.map_or(WireMiss::Unspecified, miss).into(),
        uid: connection.who.uid,
        domain: connection.domain.as_deref().unwrap_or_default().to_owned(),
        decision: Some((&connection.decision).into()),
        totals: connection.totals.map(totals),
        hops: connection
            .through
            .as_deref()
            .map(|through| through.hops.clone())
            .unwrap_or_default(),
        tunnel_problem: connection
            .through
            .as_deref()
            .map(|through| through.problem.clone())
            .unwrap_or_default(),
    }
}

/// A connection that an earlier process of this service wrote down. Errors name the field that makes no sense.
pub fn restored(wire: v1::Connection) -> Result<Connection, convert::Error> {
    let miss = missed(wire.miss());
    let uid = wire.uid;
    let through = Through {
        hops: wire.hops,
        problem: wire.tunnel_problem,
    };
    let through = (through != Through::default()).then(|| Arc::new(through));
    let flow: verdict::Flow = wire.flow.unwrap_or_default().try_into()?;
    let process: Option<verdict::Process> = wire.process.map(TryInto::try_into).transpose()?;
    Ok(Connection {
        id: wire.id,
        flow,
        scope: flow.scope(),
        started: wire
            .started
            .and_then(|started| started.try_into().ok())
            .unwrap_or(SystemTime::UNIX_EPOCH),
        who: Arc::new(Attribution {
            process: process.map(Arc::new),
            // the resolver's stream is another one now
            key: 0,
            miss,
            uid,
            cgroup: None,
        }),
        domain: (!wire.domain.is_empty()).then(|| wire.domain.into()),
        decision: wire.decision.unwrap_or_default().try_into()?,
        totals: None,
        through,
    })
}

const fn kind(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Decided => v1::EventKind::Decided,
        EventKind::Redecided => v1::EventKind::Redecided,
        EventKind::Ended => v1::EventKind::Ended,
    }
}

/// Why no process is known; `None` where one is, or may still be.
pub const fn missed(miss: WireMiss) -> Option<Miss> {
    match miss {
        WireMiss::Unspecified | WireMiss::Searching => None,
        WireMiss::NoSocket => Some(Miss::NoSocket),
        WireMiss::NoProcess => Some(Miss::NoProcess),
        WireMiss::Timeout => Some(Miss::Timeout),
    }
}

const fn miss(miss: Miss) -> WireMiss {
    match miss {
        Miss::NoSocket => WireMiss::NoSocket,
        Miss::NoProcess => WireMiss::NoProcess,
        Miss::Timeout => WireMiss::Timeout,
    }
}

fn totals(totals: Totals) -> v1::Totals {
    v1::Totals {
        sent_bytes: totals.sent.bytes,
        sent_packets: totals.sent.packets,
        received_bytes: totals.received.bytes,
        received_packets: totals.received.packets,
        duration: totals.duration.try_into().ok(),
    }
}

/// For the desktop bus.
pub fn bus_event(event: &Event) -> dbus::ConnectionEvent {
    let connection = &event.connection;
    let totals = connection.totals.unwrap_or_default();
    let process = connection.who.process.as_deref();
    let executable = process.map(|process| {
        process
            .executable
            .path
            .as_ref()
            .unwrap_or(&process.executable.claimed_path)
    });
    dbus::ConnectionEvent {
        kind: number(kind(event.kind)),
        id: connection.id,
        time: microseconds(event.time),
        direction: number(flow::Direction::from(connection.flow.direction)),
        protocol: u32::from(connection.flow.protocol.0),
        local: (octets(connection.flow.local.address), connection.flow.local.port),
        remote: (
            octets(connection.flow.remote.address),
            connection.flow.remote.port,
        ),
        scope: number(flow::Scope::from(connection.scope)),
        pid: process.map_or(0, |process| process.pid),
        uid: connection.who.uid.unwrap_or(u32::MAX),
        executable: executable
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        profile: connection.decision.profile.to_string(),
        domain: connection.domain.as_deref().unwrap_or_default().to_owned(),
        verdict: number(flow::Verdict::from(connection.decision.verdict)),
        why: number(flow::Why::from(connection.decision.why)),
        why_text: connection.decision.why.text().to_owned(),
        rule: connection.decision.source.to_string(),
        sent_bytes: totals.sent.bytes,
        sent_packets: totals.sent.packets,
        received_bytes: totals.received.bytes,
        received_packets: totals.received.packets,
        duration: u64::try_from(totals.duration.as_micros()).unwrap_or(u64::MAX),
        extra: extra(connection),
    }
}

/// What not every connection has: `hops` (as), `tunnel_problem` (s).
fn extra(connection: &Connection) -> HashMap<String, OwnedVariant> {
    let Some(through) = connection.through.as_deref() else {
        return HashMap::new();
    };
    let mut extra = HashMap::new();
    let mut add = |key: &str, value: Variant<'_>| {
        // only descriptors cannot be copied
        if let Ok(value) = value.try_into_owned() {
            extra.insert(key.to_owned(), value);
        }
    };
    if !through.hops.is_empty() {
        add("hops", through.hops.clone().into());
    }
    if !through.problem.is_empty() {
        add("tunnel_problem", through.problem.as_str().into());
    }
    extra
}

fn number(value: impl Into<i32>) -> u32 {
    u32::try_from(value.into()).unwrap_or(0)
}

fn microseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict::{Decision, Direction, Endpoint, Flow, Protocol, Verdict, Why};

    fn tunnelled(through: Option<Through>) -> Connection {
        let end = |last, port| Endpoint::new(IpAddr::from([192, 0, 2, last]), port);
        let flow = Flow {
            direction: Direction::Outgoing,
            protocol: Protocol::TCP,
            local: end(1, 4000),
            remote: end(2, 443),
        };
        Connection {
            id: 17,
            flow,
            scope: flow.scope(),
            started: SystemTime::UNIX_EPOCH,
            who: Arc::default(),
            domain: None,
            decision: Decision {
                verdict: Verdict::Tunnel,
                why: Why::DefaultAction,
                source: "app#default_action".into(),
                profile: "app".into(),
                permanent: true,
            },
            totals: None,
            through: through.map(Arc::new),
        }
    }

    #[test]
    fn the_path_through_the_tunnel_goes_wherever_events_go() {
        let through = Through {
            hops: vec!["alpha".to_owned(), "beta".to_owned()],
            problem: String::new(),
        };
        let connection = tunnelled(Some(through.clone()));
        let kept = restored(super::connection(&connection)).unwrap();
        assert_eq!(kept.through.as_deref(), Some(&through), "over a restart");
        let event = Event {
            kind: EventKind::Decided,
            time: SystemTime::UNIX_EPOCH,
            connection,
        };
        let told = bus_event(&event).extra;
        assert_eq!(told.len(), 1);
        let hops = Vec::<String>::try_from(told["hops"].try_clone().unwrap()).unwrap();
        assert_eq!(hops, through.hops);
    }

    #[test]
    fn what_is_not_tunnelled_says_nothing_of_it() {
        let connection = tunnelled(None);
        assert!(
            restored(super::connection(&connection))
                .unwrap()
                .through
                .is_none()
        );
        assert!(extra(&connection).is_empty());
        let refused = Through {
            hops: Vec::new(),
            problem: "beta: no".to_owned(),
        };
        let told = extra(&tunnelled(Some(refused)));
        assert_eq!(told.keys().collect::<Vec<_>>(), ["tunnel_problem"]);
    }
}
