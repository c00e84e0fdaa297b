//! What is live, and what happened last: each event is written out here, once.

use std::collections::BTreeMap;

use api::v1::{ConnectionEvent, ConnectionEventKind as Kind};
use bytes::Bytes;
use prost::Message as _;
use proto::{
    interceptor::v1::{self as interceptor, ConnectionEvents, EventKind},
    place::Place,
};

use super::ring::Ring;
use crate::{fields::Fields, wire};

/// In a `ConnectionEvent`, the `Connection`.
pub const CONNECTION: u32 = 3;

/// The connection of an event; both as they go out.
pub fn connection_of(event: &Bytes) -> Option<Bytes> {
    let mut fields = Fields::of(event);
    let field = fields.find(|field| field.number == CONNECTION)?;
    Some(event.slice_ref(field.value.octets()))
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Each a `Connection` as it goes out, by id.
    pub(super) live: BTreeMap<u64, Bytes>,
    pub(super) ring: Ring,
    /// The next message is the first of a stream.
    pub(super) is_fresh: bool,
}

impl State {
    /// Events, or the live ones at the beginning of a stream.
    pub(super) fn take(&mut self, message: ConnectionEvents) {
        let is_first = std::mem::take(&mut self.is_fresh);
        if is_first && message.position.is_none() {
            self.live.clear();
        }
        let Some(position) = message.position else {
            // the live ones, told at the beginning of a stream: no events
            for event in message.events {
                if let Some(connection) = event.connection {
                    self.live.insert(connection.id, written(connection));
                }
            }
            return;
        };
        let behind = u64::try_from(message.events.len()).unwrap_or(0);
        let mut sequence = position.sequence.saturating_sub(behind);
        let before = self.ring.place().map(|place| place.numbering);
        if before != Some(position.numbering) {
            self.ring.renumber(position.numbering, sequence);
            if is_first && before.is_some() {
                // numbering began anew, and nothing is live
                self.live.clear();
            }
        }
        for event in message.events {
            sequence += 1;
            let kind = event.kind();
            let Some(connection) = event.connection else {
                continue;
            };
            let id = connection.id;
            let event = ConnectionEvent {
                kind: kind_of(kind).into(),
                time: event.time,
                connection: Some(wire::connection(connection)),
            };
            let event = Bytes::from(event.encode_to_vec());
            match (kind, connection_of(&event)) {
                (EventKind::Ended, _) | (_, None) => drop(self.live.remove(&id)),
                (_, Some(connection)) => drop(self.live.insert(id, connection)),
            }
            self.ring.push(sequence, event);
        }
        self.ring.advance(Place {
            numbering: position.numbering,
            sequence: position.sequence,
        });
    }
}

/// As it goes out.
pub(super) fn written(from: interceptor::Connection) -> Bytes {
    wire::connection(from).encode_to_vec().into()
}

const fn kind_of(kind: EventKind) -> Kind {
    match kind {
        EventKind::Unspecified => Kind::Unspecified,
        EventKind::Decided => Kind::Decided,
        EventKind::Redecided => Kind::Redecided,
        EventKind::Ended => Kind::Ended,
    }
}
