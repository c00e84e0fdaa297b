//! A query that has to wait is one trace: whose it is, and what upstreams say. What is answered at once has none.
//!
//! No name is in it, unless the owner lets names leave; then the span says who asked.

use daemon::telemetry::{self, Span};

use crate::{clients::Client, log::Origin};

/// Under way; nothing where it is not traced.
#[derive(Debug)]
pub struct Trace(Option<Span>);

impl Trace {
    /// Not traced.
    pub const fn none() -> Self {
        Self(None)
    }

    /// A query came, and has to wait.
    pub fn begin(client: &Client) -> Self {
        let Some(tracer) = telemetry::tracer() else {
            return Self::none();
        };
        let mut span = tracer.begin("query");
        if let Some(span) = &mut span {
            let transport = client.protocol.name().unwrap_or("other");
            span.set("network.transport", transport);
            if tracer.exports_names() {
                span.set("client.address", client.address.ip().to_string());
                span.set("client.port", i64::from(client.address.port()));
            }
        }
        Self(span)
    }

    /// A part of it; ends when it is dropped.
    pub fn part(&self, name: &'static str) -> Self {
        let part = self.0.as_ref().zip(telemetry::tracer());
        Self(part.and_then(|(whole, tracer)| tracer.part_of(whole, name, true)))
    }

    /// W3C trace context for another service; empty where it is not traced.
    pub fn traceparent(&self) -> String {
        self.0.as_ref().map(Span::traceparent).unwrap_or_default()
    }

    /// The answer is written.
    pub fn answered(&mut self, origin: Origin, message: &[u8]) {
        if let Some(span) = &mut self.0 {
            span.set("portmaster.dns.source", origin.text());
            let code = message.get(3).map_or(2, |flags| flags & 0x0f);
            span.set("dns.response.code", i64::from(code));
        }
    }
}
