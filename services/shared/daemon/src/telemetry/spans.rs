//! Spans that are not tied to a scope of code: begun here, ended there, with times of their own. For what is asked in one
//! place and answered in another.

use std::{collections::HashMap, sync::OnceLock, time::SystemTime};

use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span as SdkSpan},
};

/// Set where traces are exported, never changed.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// The field and metadata key of W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// What begins traces.
#[derive(Debug)]
pub struct Tracer {
    tracer: SdkTracer,
    names: bool,
}

/// `None` where traces are not exported: whoever asks does no more then.
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

pub(super) fn set_tracer(tracer: SdkTracer, names: bool) {
    // a second service in one process (tests) keeps the first one's
    let _ = TRACER.set(Tracer { tracer, names });
}

impl Tracer {
    /// The owner lets names, addresses and paths leave.
    pub const fn exports_names(&self) -> bool {
        self.names
    }

    /// A new trace; `None` where it is not one of those that are sampled.
    pub fn begin(&self, name: &'static str) -> Option<Span> {
        self.start(name, SpanKind::Internal, &Context::new())
    }

    /// Goes on with the trace that another service began. `None` where there is none, or it is not sampled.
    pub fn go_on(&self, name: &'static str, traceparent: &str) -> Option<Span> {
        if traceparent.is_empty() {
            return None;
        }
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let sampled = parent.span().span_context().is_sampled();
        if sampled {
            self.start(name, SpanKind::Server, &parent)
        } else {
            None
        }
    }

    /// A part of what `parent` tells of; `asks`: another service goes on with it.
    pub fn part_of(&self, parent: &Span, name: &'static str, asks: bool) -> Option<Span> {
        let context = Context::new().with_remote_span_context(parent.0.span_context().clone());
        let kind = if asks {
            SpanKind::Client
        } else {
            SpanKind::Internal
        };
        self.start(name, kind, &context)
    }

    /// A part that began earlier.
    pub fn part_since(&self, parent: &Span, name: &'static str, began: SystemTime) -> Option<Span> {
        let context = Context::new().with_remote_span_context(parent.0.span_context().clone());
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Producer)
            .with_start_time(began);
        self.build(builder, &context)
    }

    fn start(&self, name: &'static str, kind: SpanKind, parent: &Context) -> Option<Span> {
        self.build(SpanBuilder::from_name(name).with_kind(kind), parent)
    }

    fn build(&self, builder: SpanBuilder, parent: &Context) -> Option<Span> {
        let span = self.tracer.build_with_context(builder, parent);
        span.span_context().is_sampled().then_some(Span(span))
    }
}

/// Under way. Dropped, it ends.
#[derive(Debug)]
pub struct Span(SdkSpan);

impl Span {
    /// W3C trace context, for another service.
    pub fn traceparent(&self) -> String {
        let context = self.0.span_context();
        let flags = context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    }

    /// Says something of it, by the name that OpenTelemetry's semantic conventions have for that, where they have one.
    pub fn set(&mut self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.0.set_attribute(KeyValue::new(key, value));
    }

    /// It ended at this time.
    pub fn end_at(mut self, time: SystemTime) {
        self.0.end_with_timestamp(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider};

    fn tracer(sampler: Sampler) -> (Tracer, SdkTracerProvider, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exporter.clone())
            .build();
        let tracer = provider.tracer("test");
        (Tracer { tracer, names: false }, provider, exporter)
    }

    #[test]
    fn a_trace_goes_on_from_its_text() {
        let (tracer, _provider, exported) = tracer(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)));
        let whole = tracer.begin("whole").unwrap();
        let part = tracer.part_of(&whole, "part", true).unwrap();
        let text = part.traceparent();
        drop(tracer.go_on("elsewhere", &text).unwrap());
        drop((part, whole));
        let spans = exported.get_finished_spans().unwrap();
        let [elsewhere, part, whole] = &spans[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(elsewhere.parent_span_id, part.span_context.span_id());
        assert_eq!(part.parent_span_id, whole.span_context.span_id());
        assert_eq!(elsewhere.span_context.trace_id(), whole.span_context.trace_id());
    }

    #[test]
    fn what_is_no_context_or_not_sampled_begins_nothing() {
        let (tracer, ..) = tracer(Sampler::AlwaysOn);
        for text in [
            "",
            "garbage",
            "00-00000000000000000000000000000000-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            assert!(tracer.go_on("x", text).is_none(), "{text}");
        }
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(tracer.go_on("x", good).is_some());
    }

    #[test]
    fn where_nothing_is_sampled_nothing_begins() {
        let (tracer, ..) = tracer(Sampler::AlwaysOff);
        assert!(tracer.begin("x").is_none());
    }
}
