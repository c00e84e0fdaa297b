//! One connection is one trace: from its question to its decision, over what the process-resolver and the tunnel's entry do for
//! it, and on to those who hear of it.
//!
//! Kept beside the judge, not in it: questions, answers and events tell when it began and ended. Without an exporter, and for
//! what is not sampled, nothing is kept.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use daemon::telemetry::{self, Span, Tracer};
use verdict::Flow;

use crate::judge::{Answer, Connection, Event, EventKind, Miss, Question};

/// Connections that are traced at once; those beyond go untraced.
const MOST: usize = 4096;
/// For an answer, and for the event that tells of a decision; some connections never get one.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's head. Shared by the packet path, which asks, and the hub, which hears of decisions.
#[derive(Debug)]
pub struct Traces {
    tracer: &'static Tracer,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    traces: HashMap<Flow, Trace>,
    by_request: HashMap<u64, Flow>,
    /// Decided, and on their way to the desktop bus: by the connection's number, with the time of the decision.
    publishing: HashMap<u64, (Span, SystemTime)>,
    swept: Option<SystemTime>,
}

#[derive(Debug)]
struct Trace {
    connection: Span,
    /// Until it is answered.
    attribution: Option<Span>,
    /// From the first question to the entry on.
    tunnel: Option<Span>,
    request: u64,
    /// What happened to it last.
    touched: SystemTime,
}

/// `None` where traces are not exported.
pub fn traces() -> Option<&'static Traces> {
    static TRACES: OnceLock<Traces> = OnceLock::new();
    let tracer = telemetry::tracer()?;
    Some(TRACES.get_or_init(|| Traces {
        tracer,
        open: Mutex::default(),
    }))
}

impl Traces {
    /// It is asked whose this flow is; gives the context that goes with the question, empty where it is not traced.
    pub fn asked(&self, question: &Question) -> String {
        let now = SystemTime::now();
        let mut open = self.lock();
        open.sweep(now);
        let before = open.take_for(&question.flow, question.request_id);
        if open.traces.len() >= MOST {
            return String::new();
        }
        let Some(connection) = before.or_else(|| self.begin(&question.flow)) else {
            return String::new();
        };
        let attribution = self.tracer.part_of(&connection, "attribution", true);
        let context = attribution.as_ref().map(Span::traceparent).unwrap_or_default();
        let trace = Trace {
            connection,
            attribution,
            tunnel: None,
            request: question.request_id,
            touched: now,
        };
        open.by_request.insert(question.request_id, question.flow);
        open.traces.insert(question.flow, trace);
        context
    }

    fn begin(&self, flow: &Flow) -> Option<Span> {
        let mut span = self.tracer.begin("connection")?;
        let number = || flow.protocol.0.to_string();
        span.set(
            "network.transport",
            flow.protocol.name().map_or_else(number, str::to_owned),
        );
        let family = match flow.remote.address {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        span.set("network.type", family);
        span.set("portmaster.direction", flow.direction.text());
        Some(span)
    }

    /// The answer is there. What it gives ends when the judge has decided by it.
    pub fn answered(&self, answer: &Answer) -> Option<Span> {
        let now = SystemTime::now();
        let mut open = self.lock();
        let flow = open.by_request.remove(&answer.request_id)?;
        let trace = open.traces.get_mut(&flow)?;
        trace.touched = now;
        if let Some(mut attribution) = trace.attribution.take() {
            attribution.set("portmaster.attributed", answer.miss.is_none());
            if let Some(miss) = answer.miss {
                attribution.set("portmaster.miss", text(miss));
            }
            attribution.end_at(now);
        }
        self.tracer.part_of(&trace.connection, "decide", false)
    }

    /// The tunnel's entry is asked to open this one; gives the context that goes with it, empty where it is not traced.
    pub fn tunnelling(&self, flow: &Flow) -> String {
        let mut open = self.lock();
        let Some(trace) = open.traces.get_mut(flow) else {
            return String::new();
        };
        trace.touched = SystemTime::now();
        trace.tunnel = self.tracer.part_of(&trace.connection, "tunnel", true);
        trace.tunnel.as_ref().map(Span::traceparent).unwrap_or_default()
    }

    /// Subscribers were told of connections, and the desktop bus is about to be: those that are new are decided.
    pub fn told(&self, events: &[Event]) {
        let now = SystemTime::now();
        let mut open = self.lock();
        for event in events.iter().filter(|event| event.kind == EventKind::Decided) {
            if let Some(trace) = open.remove(&event.connection.flow) {
                let publishing = self.publish(&trace.connection, event.time, now);
                self.end(trace, event);
                if open.publishing.len() < MOST {
                    let id = event.connection.id;
                    open.publishing
                        .extend(publishing.map(|span| (id, (span, event.time))));
                }
            }
        }
    }

    /// One span for subscribers, which ends now; gives the one for the bus.
    fn publish(&self, connection: &Span, decided: SystemTime, now: SystemTime) -> Option<Span> {
        let to = |whom: &'static str| {
            let mut span = self.tracer.part_since(connection, "publish", decided)?;
            span.set("portmaster.to", whom);
            Some(span)
        };
        if let Some(subscribers) = to("subscribers") {
            subscribers.end_at(now);
        }
        to("bus")
    }

    /// The desktop bus has taken these connections' events.
    pub fn on_bus(&self, connections: &[u64]) {
        let now = SystemTime::now();
        let mut open = self.lock();
        for id in connections {
            if let Some((span, _)) = open.publishing.remove(id) {
                span.end_at(now);
            }
        }
    }

    fn end(&self, trace: Trace, event: &Event) {
        let Trace {
            mut connection,
            attribution,
            tunnel,
            ..
        } = trace;
        if let Some(tunnel) = tunnel {
            tunnel.end_at(event.time);
        }
        if let Some(mut attribution) = attribution {
            attribution.set("portmaster.attributed", false);
            attribution.set("portmaster.miss", text(Miss::Timeout));
            attribution.end_at(event.time);
        }
        describe(&mut connection, &event.connection);
        if self.tracer.exports_names() {
            name(&mut connection, &event.connection);
        }
        connection.end_at(event.time);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // nothing in here is left half done by a panic
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The span of a connection that is asked for again, since the resolver began anew. Another connection with the same ends
    /// has another number: its span ends.
    fn take_for(&mut self, flow: &Flow, request: u64) -> Option<Span> {
        let before = self.remove(flow)?;
        (before.request == request).then_some(before.connection)
    }

    fn remove(&mut self, flow: &Flow) -> Option<Trace> {
        let trace = self.traces.remove(flow)?;
        self.by_request.remove(&trace.request);
        Some(trace)
    }

    /// Ends what nobody will hear of any more, once in a while.
    fn sweep(&mut self, now: SystemTime) {
        let since = |then: SystemTime| now.duration_since(then).unwrap_or_default();
        if self.swept.is_some_and(|swept| since(swept) < PATIENCE) {
            return;
        }
        self.swept = Some(now);
        for (_, trace) in self.traces.extract_if(|_, trace| since(trace.touched) > PATIENCE) {
            self.by_request.remove(&trace.request);
            trace.connection.end_at(trace.touched);
        }
        // the bus did not take them: such a span is no part of the trace's story, and ends where it began
        for (_, (span, decided)) in self
            .publishing
            .extract_if(|_, (_, decided)| since(*decided) > PATIENCE)
        {
            span.end_at(decided);
        }
    }
}

const fn text(miss: Miss) -> &'static str {
    match miss {
        Miss::NoSocket => "no-socket",
        Miss::NoProcess => "no-process",
        Miss::Timeout => "timeout",
    }
}

/// Words of ours.
fn describe(span: &mut Span, connection: &Connection) {
    span.set("portmaster.scope", connection.scope.text());
    span.set("portmaster.verdict", connection.decision.verdict.text());
    span.set("portmaster.why", connection.decision.why.text());
    span.set("portmaster.attributed", connection.who.process.is_some());
}

/// Who, where, by which rule: only where the owner lets that leave.
fn name(span: &mut Span, connection: &Connection) {
    let Flow { local, remote, .. } = connection.flow;
    span.set("network.local.address", local.address.to_string());
    span.set("network.local.port", i64::from(local.port));
    span.set("network.peer.address", remote.address.to_string());
    span.set("network.peer.port", i64::from(remote.port));
    if let Some(domain) = &connection.domain {
        span.set("server.address", domain.to_string());
    }
    span.set("portmaster.profile", connection.decision.profile.to_string());
    span.set("portmaster.rule", connection.decision.source.to_string());
    if let Some(uid) = connection.who.uid {
        span.set("process.real_user.id", i64::from(uid));
    }
    let Some(process) = &connection.who.process else {
        return;
    };
    span.set("process.pid", i64::from(process.pid));
    if let Some(path) = &process.executable.path {
        span.set("process.executable.path", path.display().to_string());
    }
}
