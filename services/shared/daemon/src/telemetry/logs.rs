//! Log lines on their way out.
//!
//! Their words may hold a path or a profile's name, so they leave only where the owner exports names. Without that a record
//! says how grave it is, where in our source it was written, and the stable code of a problem.

use std::fmt;

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, Severity};
use opentelemetry_sdk::logs::SdkLogger;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Fields whose values are words of ours.
const STABLE: [&str; 2] = ["code", "version"];

/// Makes a record of each event.
#[derive(Debug)]
pub(super) struct Logs {
    logger: SdkLogger,
    names: bool,
}

impl Logs {
    pub(super) const fn new(logger: SdkLogger, names: bool) -> Self {
        Self { logger, names }
    }
}

impl<S: Subscriber> Layer<S> for Logs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields {
            names: self.names,
            body: None,
            attributes: Vec::new(),
        };
        event.record(&mut fields);
        let mut record = self.logger.create_log_record();
        let (number, text) = severity(*metadata.level());
        record.set_severity_number(number);
        record.set_severity_text(text);
        record.set_target(metadata.target());
        record.add_attributes(fields.attributes);
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            record.add_attribute("code.file.path", file);
            record.add_attribute("code.line.number", i64::from(line));
        }
        if let Some(body) = fields.body {
            record.set_body(AnyValue::from(body));
        }
        self.logger.emit(record);
    }
}

const fn severity(level: Level) -> (Severity, &'static str) {
    match level {
        Level::ERROR => (Severity::Error, "ERROR"),
        Level::WARN => (Severity::Warn, "WARN"),
        Level::INFO => (Severity::Info, "INFO"),
        Level::DEBUG => (Severity::Debug, "DEBUG"),
        Level::TRACE => (Severity::Trace, "TRACE"),
    }
}

struct Fields {
    names: bool,
    body: Option<String>,
    attributes: Vec<(&'static str, AnyValue)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, || format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, || value.to_owned());
    }
}

impl Fields {
    fn take(&mut self, field: &Field, value: impl FnOnce() -> String) {
        if !self.names && !STABLE.contains(&field.name()) {
            return;
        }
        if field.name() == "message" {
            self.body = Some(value());
        } else {
            self.attributes.push((field.name(), AnyValue::from(value())));
        }
    }
}
