//! Messages of a stream as server-sent events. Many watch the same: what was written for one of them is not written again for the
//! next, neither a message that is the same for all of them, nor what happened and stands in messages of their own.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{BufMut as _, Bytes};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value};
use tonic::Status;

use super::{EVENT_ID, decode, internal};
use crate::fields::Fields;

/// Texts that are remembered: those who keep up are within some hundred events of each other.
const KEPT: usize = 1024;
/// Octets; longer ones are written for each.
const LONGEST: usize = 8 << 10;

/// Whole messages that are remembered, and their octets with those of their texts.
const WHOLE: usize = 64;
const WHOLE_OCTETS: usize = 8 << 20;

/// Texts of one stream, the last ones: of its list (`events` of `WatchConnectionsReply`), all of one kind of message, so that the
/// same octets are the same text; and of whole messages.
#[derive(Debug, Default)]
pub struct Texts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    texts: HashMap<Bytes, Bytes>,
    /// As they came.
    order: VecDeque<Bytes>,
    /// Messages that others send as well, and what was made of them.
    whole: VecDeque<(Bytes, Bytes)>,
    whole_octets: usize,
}

impl Known {
    fn keep(&mut self, octets: Bytes, text: Bytes) {
        if self.texts.insert(octets.clone(), text).is_some() {
            return;
        }
        self.order.push_back(octets);
        if self.order.len() > KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.texts.remove(&oldest);
        }
    }

    /// The very octets, not equal ones: they are held here, so nothing else can stand there.
    fn whole(&self, octets: &Bytes) -> Option<Bytes> {
        let is = |known: &Bytes| known.as_ptr() == octets.as_ptr() && known.len() == octets.len();
        let found = self.whole.iter().rev().find(|(known, _)| is(known));
        found.map(|(_, event)| event.clone())
    }

    fn keep_whole(&mut self, octets: Bytes, event: Bytes) {
        self.whole_octets += octets.len() + event.len();
        self.whole.push_back((octets, event));
        while (self.whole.len() > WHOLE || self.whole_octets > WHOLE_OCTETS)
            && let Some((octets, event)) = self.whole.pop_front()
        {
            self.whole_octets -= octets.len() + event.len();
        }
    }
}

impl Texts {
    /// A message that is an answer of a stream, as an event; its `id` is the place behind it (`event_id`), if it says one.
    ///
    /// # Errors
    /// `INTERNAL` for what is no such message.
    pub(super) fn event(&self, descriptor: &MessageDescriptor, octets: &Bytes) -> Result<Bytes, Status> {
        // nobody else holds it: nobody else will ask
        let shared = !octets.is_unique();
        if shared && let Some(known) = self.lock().whole(octets) {
            return Ok(known);
        }
        let (text, id) = self.message(descriptor, octets)?;
        let mut event = Vec::with_capacity(text.len() + id.len() + 16);
        if !id.is_empty() {
            event.put_slice(format!("id: {id}\n").as_bytes());
        }
        event.put_slice(b"data: ");
        event.put_slice(&text);
        event.put_slice(b"\n\n");
        let event = Bytes::from(event);
        if shared {
            self.lock().keep_whole(octets.clone(), event.clone());
        }
        Ok(event)
    }

    fn message(&self, descriptor: &MessageDescriptor, octets: &[u8]) -> Result<(Vec<u8>, String), Status> {
        let (list, of) = match list(descriptor) {
            Some((list, of)) => (Some(list), Some(of)),
            None => (None, None),
        };
        let (mut text, mut rest, mut count) = (vec![b'{'], Vec::new(), 0_usize);
        for field in Fields::of(octets) {
            match (&list, &of) {
                (Some(list), Some(of)) if field.number == list.number() => {
                    if count == 0 {
                        text.put_slice(format!("\"{}\":[", list.json_name()).as_bytes());
                    } else {
                        text.push(b',');
                    }
                    text.put_slice(&self.text(of, field.value.octets())?);
                    count += 1;
                }
                _ => rest.extend(field.whole),
            }
        }
        let rest = decode(descriptor, &rest)?;
        let id = rest.get_field_by_name(EVENT_ID);
        let id = id.as_deref().and_then(Value::as_str).unwrap_or_default();
        let head = write(&rest)?;
        let head = head.get(1..head.len().saturating_sub(1)).unwrap_or_default();
        if count > 0 {
            text.push(b']');
            if !head.is_empty() {
                text.push(b',');
            }
        }
        text.put_slice(head);
        text.push(b'}');
        Ok((text, id.to_owned()))
    }

    fn text(&self, of: &MessageDescriptor, octets: &[u8]) -> Result<Bytes, Status> {
        if let Some(known) = self.lock().texts.get(octets) {
            return Ok(known.clone());
        }
        let text = Bytes::from(write(&decode(of, octets)?)?);
        if octets.len() <= LONGEST {
            // a copy: a slice would keep the whole message
            self.lock().keep(Bytes::copy_from_slice(octets), text.clone());
        }
        Ok(text)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The field that holds what happened: the first list of messages.
fn list(message: &MessageDescriptor) -> Option<(FieldDescriptor, MessageDescriptor)> {
    message.fields().find_map(|field| match field.kind() {
        Kind::Message(of) if field.is_list() => Some((field, of)),
        _ => None,
    })
}

fn write(message: &DynamicMessage) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(message).map_err(|error| internal(&error))
}

#[cfg(test)]
mod tests {
    use api::v1::{Connection, ConnectionEvent, WatchConnectionsReply};
    use prost::Message as _;

    use super::*;
    use crate::methods::Methods;

    fn reply(ids: std::ops::Range<u64>, event_id: &str) -> WatchConnectionsReply {
        let event = |id| ConnectionEvent {
            connection: Some(Connection {
                id,
                domain: "\"quoted\".example".into(),
                ..Connection::default()
            }),
            ..ConnectionEvent::default()
        };
        WatchConnectionsReply {
            events: ids.map(event).collect(),
            dropped: 3,
            event_id: event_id.to_owned(),
        }
    }

    #[test]
    fn a_message_is_written_as_by_its_descriptor_whoever_wrote_it_before() {
        let methods = Methods::new().unwrap();
        let output = &methods
            .get("/portmaster.api.v1.Connections/Watch")
            .unwrap()
            .output;
        let texts = Texts::default();
        for (ids, event_id) in [
            (0..3, "a-1"),
            (1..4, "a-2"),
            (0..0, ""),
            (0..0, "a-3"),
            (2..3, ""),
        ] {
            let octets = reply(ids, event_id).encode_to_vec();
            let (text, id) = texts.message(output, &octets).unwrap();
            let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
            let expected = serde_json::to_value(decode(output, &octets).unwrap()).unwrap();
            assert_eq!((text, id.as_str()), (expected, event_id));
        }
        assert_eq!(texts.lock().order.len(), 4);
    }

    #[test]
    fn no_more_is_kept_than_a_few() {
        let methods = Methods::new().unwrap();
        let output = &methods
            .get("/portmaster.api.v1.Connections/Watch")
            .unwrap()
            .output;
        let texts = Texts::default();
        for first in (0..5000).step_by(100) {
            texts
                .message(output, &reply(first..first + 100, "").encode_to_vec())
                .unwrap();
        }
        let known = texts.lock();
        assert_eq!((known.texts.len(), known.order.len()), (KEPT, KEPT));
    }

    #[test]
    fn a_message_of_many_is_written_once() {
        let methods = Methods::new().unwrap();
        let output = &methods
            .get("/portmaster.api.v1.Connections/Watch")
            .unwrap()
            .output;
        let texts = Texts::default();
        let octets = Bytes::from(reply(0..3, "a-1").encode_to_vec());
        let alone = texts.event(output, &octets).unwrap();
        assert!(texts.lock().whole.is_empty(), "nobody else has it");
        let other = octets.clone();
        let (first, second) = (texts.event(output, &octets), texts.event(output, &other));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same octets");
        assert_eq!(first, alone);
        assert!(first.starts_with(b"id: a-1\ndata: {") && first.ends_with(b"}\n\n"));
        // equal octets elsewhere are another message
        let equal = Bytes::copy_from_slice(&octets);
        let _held = equal.clone();
        assert_ne!(texts.event(output, &equal).unwrap().as_ptr(), first.as_ptr());

        for number in 0..1000 {
            let octets = Bytes::from(reply(0..300, &format!("a-{number}")).encode_to_vec());
            let _held = octets.clone();
            texts.event(output, &octets).unwrap();
        }
        let known = texts.lock();
        assert_eq!(known.whole.len(), WHOLE);
        let sum: usize = known
            .whole
            .iter()
            .map(|(octets, event)| octets.len() + event.len())
            .sum();
        assert_eq!(known.whole_octets, sum);
    }
}
