//! One connection is one trace across services: W3C trace context in the metadata of calls.

use opentelemetry::{
    global,
    propagation::{Extractor, Injector},
};
use tonic::{
    Request, Status as Refusal,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    service::interceptor::InterceptedService,
    transport::Channel,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// A channel whose calls carry the trace that they are made in.
pub type Traced = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Refusal>>;

/// Makes calls carry the trace that they are made in; without OTLP it adds nothing.
pub fn traced(channel: Channel) -> Traced {
    InterceptedService::new(channel, inject)
}

fn inject(mut request: Request<()>) -> Result<Request<()>, Refusal> {
    let context = Span::current().context();
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&context, &mut Outgoing(request.metadata_mut()));
    });
    Ok(request)
}

/// The span that a call is served in: a child of the caller's.
pub(crate) fn span_of_call(request: &http::Request<()>) -> Span {
    let method = method(request.uri().path());
    let span = tracing::info_span!("call", otel.kind = "server", rpc.method = method);
    let parent =
        global::get_text_map_propagator(|propagator| propagator.extract(&Incoming(request.headers())));
    // without OTLP there is nobody who wants to know
    let _ = span.set_parent(parent);
    span
}

/// A path that is no method's of ours is its caller's own words: they are not repeated.
fn method(path: &str) -> &str {
    let is_named_by_us = ["/portmaster.", "/grpc."]
        .iter()
        .any(|ours| path.starts_with(ours));
    if is_named_by_us { path } else { "unknown" }
}

struct Outgoing<'a>(&'a mut MetadataMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (
            MetadataKey::from_bytes(key.as_bytes()),
            MetadataValue::try_from(value),
        ) {
            self.0.insert(key, value);
        }
    }
}

struct Incoming<'a>(&'a http::HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
