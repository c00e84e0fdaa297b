//! One connection is one trace: from its question to its decision, over what the process-resolver does for it.
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
    swept: Option<SystemTime>,
}

#[derive(Debug)]
struct Trace {
    connection: Span,
    /// Until it is answered.
    attribution: Option<Span>,
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

    /// Connections were told of: those that are new are decided.
    pub fn told(&self, events: &[Event]) {
        let mut open = self.lock();
        for event in events.iter().filter(|event| event.kind == EventKind::Decided) {
            if let Some(trace) = open.remove(&event.connection.flow) {
                self.end(trace, event);
            }
        }
    }

    fn end(&self, trace: Trace, event: &Event) {
        let Trace {
            mut connection,
            attribution,
            ..
        } = trace;
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
