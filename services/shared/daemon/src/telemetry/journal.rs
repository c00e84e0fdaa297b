//! Messages for the journal that tell all: `journalctl` shows MESSAGE alone, so what else an event says stands in it too, as on a
//! terminal. The fields stay fields beside it (`F_ERROR=`, …), for `journalctl -o json` and for filters.

use std::{
    array,
    fmt::{self, Write as _},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Value, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context};

/// Fields of one event that stay fields, its message among them; whatever is beyond stands in the message alone.
const MOST: usize = 32;
const MESSAGE: &str = "message";

/// Passes events on to a layer that writes them, with whole messages.
#[derive(Debug)]
pub(super) struct Whole<L>(pub(super) L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Whole<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let (metadata, fields) = (event.metadata(), event.metadata().fields());
        let (Some(message), Some(said)) = (fields.field(MESSAGE), said(event)) else {
            return self.0.on_event(event, context);
        };
        let text = said.text();
        let values: [(&Field, Option<&dyn Value>); MOST] =
            array::from_fn(|place| match place.checked_sub(1) {
                None => (&message, Some(&text as &dyn Value)),
                Some(place) => said.fields.get(place).map_or((&message, None), |one| {
                    (&one.field, Some(&one.value as &dyn Value))
                }),
            });
        self.0
            .on_event(&Event::new(metadata, &fields.value_set(&values)), context);
    }
}

/// What an event says besides its message; `None` where that is all.
fn said(event: &Event<'_>) -> Option<Said> {
    let mut said = Said::default();
    event.record(&mut said);
    (!said.fields.is_empty()).then_some(said)
}

#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Vec<One>,
}

#[derive(Debug)]
struct One {
    field: Field,
    value: String,
    /// A text of several words is told from the next field by quotation marks.
    is_text: bool,
}

impl Said {
    fn text(&self) -> String {
        let mut text = self.message.clone();
        for One {
            field,
            value,
            is_text,
        } in &self.fields
        {
            // nothing that is written into a text fails
            let _ = match is_text {
                true => write!(text, " {field}={value:?}"),
                false => write!(text, " {field}={value}"),
            };
        }
        text
    }

    fn take(&mut self, field: &Field, value: String, is_text: bool) {
        if field.name() == MESSAGE {
            self.message = value;
        } else {
            self.fields.push(One {
                field: field.clone(),
                value,
                is_text,
            });
        }
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, format!("{value:?}"), false);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.to_owned(), true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Writes down what it is given.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Written {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            struct Fields<'a>(&'a mut Vec<String>);
            impl Visit for Fields<'_> {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    self.0.push(format!("{field}: {value:?}"));
                }

                fn record_str(&mut self, field: &Field, value: &str) {
                    self.0.push(format!("{field}: {value}"));
                }
            }
            event.record(&mut Fields(&mut self.0.lock().unwrap()));
        }
    }

    fn written(event: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Whole(written.clone())), event);
        let fields = written.0.lock().unwrap();
        fields.clone()
    }

    #[test]
    fn the_message_tells_all_and_the_fields_stay() {
        let error = std::io::Error::other("no such file");
        let said = written(
            || tracing::warn!(%error, queue = 17040, reason = "it was \"gone\"", "cannot {}", "read"),
        );
        assert_eq!(
            said,
            [
                r#"message: cannot read error=no such file queue=17040 reason="it was \"gone\"""#,
                "error: no such file",
                "queue: 17040",
                r#"reason: it was "gone""#,
            ]
        );
    }

    #[test]
    fn what_says_nothing_else_is_passed_on_as_it_is() {
        assert_eq!(written(|| tracing::info!("ready")), ["message: ready"]);
        assert_eq!(written(|| tracing::info!(count = 3)), ["count: 3"]);
    }
}
