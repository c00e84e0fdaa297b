//! What a client wants of events, and what was made of batches for clients that want the same.
//!
//! Invariant: however many want the same of a batch, it is looked through, cut and written once; all of them send the same octets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::v1::{ConnectionFilter, WatchConnectionsRequest};
use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use prost_types::FieldMask;
use tonic::Status;

use crate::{
    hub::{Batch, CONNECTION, Next, connection_of},
    mask::Mask,
    rpc::filter::Filter,
};

/// In a `ConnectionEvent`, beside its connection.
const KIND: u32 = 1;
const TIME: u32 = 2;
/// What is remembered: those who keep up are within a few batches of each other.
const KEPT: usize = 128;
const KEPT_OCTETS: usize = 8 << 20;
/// Octets of a question; who asks longer ones has them for himself.
const LONGEST: usize = 1024;
/// Of gRPC, before each message: a flag, and four octets of length (`grpc/doc/PROTOCOL-HTTP2.md`).
const HEAD: usize = 5;

/// A `WatchConnectionsReply` whose events are written out already: the same on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Written {
    /// Each a `ConnectionEvent`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) events: Vec<Bytes>,
    /// Events that this client lost before these.
    #[prost(uint64, tag = "2")]
    pub(super) dropped: u64,
    /// Behind the last of these events.
    #[prost(string, tag = "3")]
    pub(super) event_id: String,
}

impl Written {
    /// As gRPC sends it.
    pub(super) fn framed(&self) -> Bytes {
        let length = self.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_u8(0);
        // a batch is far below 4 GiB
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        // a buffer takes what it is given
        let _ = self.encode(&mut frame);
        frame.freeze()
    }
}

/// The message of a frame.
pub(super) fn message_of(frame: &Bytes) -> &[u8] {
    frame.get(HEAD..).unwrap_or_default()
}

/// Filter and field mask of a client.
#[derive(Clone, Debug)]
pub(super) struct View {
    filter: Filter,
    /// Of events.
    mask: Mask,
    /// The same for all who ask the same; none where it is not to be remembered.
    asked: Option<Arc<[u8]>>,
}

impl View {
    /// # Errors
    /// `INVALID_ARGUMENT` for what cannot be wanted.
    pub(super) fn new(
        filter: Option<ConnectionFilter>,
        read_mask: Option<FieldMask>,
        of: &MessageDescriptor,
    ) -> Result<Self, Status> {
        let asked = WatchConnectionsRequest {
            filter: filter.clone(),
            read_mask: read_mask.clone(),
            ..WatchConnectionsRequest::default()
        };
        let asked = asked.encode_to_vec();
        Ok(Self {
            filter: Filter::new(filter)?,
            mask: Mask::new(read_mask, of)?.inside(CONNECTION, &[KIND, TIME]),
            asked: (asked.len() <= LONGEST).then(|| asked.into()),
        })
    }

    /// A `Connection` that is wanted.
    pub(super) fn fits(&self, connection: &[u8]) -> bool {
        self.filter.fits(connection)
    }

    /// Of a `ConnectionEvent`, what is wanted.
    pub(super) fn cut(&self, event: &Bytes) -> Bytes {
        self.mask.apply(event)
    }

    /// Events that are wanted, cut.
    fn of(&self, next: &Next) -> Vec<Bytes> {
        let fitting = next
            .events()
            .iter()
            .filter(|(_, event)| connection_of(event).is_some_and(|connection| self.fits(&connection)));
        fitting.map(|(_, event)| self.cut(event)).collect()
    }
}

/// What was made last, for everybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Views(Arc<Mutex<Made>>);

#[derive(Debug, Default)]
struct Made {
    last: VecDeque<One>,
    octets: usize,
}

#[derive(Debug)]
struct One {
    batch: Arc<Batch>,
    asked: Arc<[u8]>,
    /// None: nothing of it is wanted.
    frame: Option<Bytes>,
}

impl One {
    fn octets(&self) -> usize {
        self.frame.as_ref().map_or(0, Bytes::len)
    }
}

impl Views {
    /// What a client is told of `next`, as gRPC sends it, where `dropped` were lost before; nothing where nothing is wanted.
    pub(super) fn frame(&self, view: &View, next: &Next, dropped: u64) -> Option<Bytes> {
        let shared = match (&next.batch, &view.asked) {
            (Some(batch), Some(asked)) if next.is_whole() && dropped == 0 => Some((batch, asked)),
            _ => None,
        };
        if let Some((batch, asked)) = shared
            && let Some(known) = self.lock().find(batch, asked)
        {
            return known;
        }
        let events = view.of(next);
        let frame = (!events.is_empty() || dropped > 0).then(|| {
            let event_id = next.place.map(|place| place.text()).unwrap_or_default();
            let written = Written {
                events,
                dropped,
                event_id,
            };
            written.framed()
        });
        if let Some((batch, asked)) = shared {
            self.lock().keep(One {
                batch: Arc::clone(batch),
                asked: Arc::clone(asked),
                frame: frame.clone(),
            });
        }
        frame
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Made {
    fn find(&self, batch: &Arc<Batch>, asked: &Arc<[u8]>) -> Option<Option<Bytes>> {
        let found = self
            .last
            .iter()
            .rev()
            .find(|one| Arc::ptr_eq(&one.batch, batch) && one.asked == *asked);
        found.map(|one| one.frame.clone())
    }

    fn keep(&mut self, one: One) {
        self.octets += one.octets();
        self.last.push_back(one);
        while (self.last.len() > KEPT || self.octets > KEPT_OCTETS)
            && let Some(oldest) = self.last.pop_front()
        {
            self.octets -= oldest.octets();
        }
    }
}

#[cfg(test)]
mod tests;
