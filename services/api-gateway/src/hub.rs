//! What happens to connections, followed once and kept for all who watch.
//!
//! Invariant: a client that reads slowly costs the others nothing: events stand in one ring for all, and each client has a place
//! in it. Whoever falls out at its end is told how much he lost.
//!
//! All is kept as it goes out: an event is written once, whoever and how many watch, and takes a few hundred octets.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use api::v1::{Connection, ConnectionEvent, ConnectionEventKind as Kind};
use bytes::Bytes;
use daemon::{grpc, status::Status};
use futures_util::{StreamExt as _, future::ready};
use prost::Message as _;
use proto::interceptor::v1::{
    self as interceptor, ConnectionEvents, EventKind, ListConnectionsRequest, Position, WatchEventsRequest,
    interceptor_client::InterceptorClient,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{fields::Fields, wire};

/// Events that are kept: some seconds of a storm, hours of a desktop.
const KEPT: usize = 16_384;
/// At once from the ring.
const BATCH: usize = 512;

/// A `ConnectionEvent` as it goes out, and its number.
pub type Numbered = (u64, Bytes);
/// In a `ConnectionEvent`, the `Connection`.
pub const CONNECTION: u32 = 3;

/// The connection of an event; both as they go out.
pub fn connection_of(event: &Bytes) -> Option<Bytes> {
    let mut fields = Fields::of(event);
    let field = fields.find(|field| field.number == CONNECTION)?;
    Some(event.slice_ref(field.value.octets()))
}

/// A place in the stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the numbering, as the interceptor has it.
    pub numbering: u64,
    /// Of the last event that was seen.
    pub sequence: u64,
}

impl Place {
    /// As clients show it.
    pub fn text(self) -> String {
        format!("{:x}-{}", self.numbering, self.sequence)
    }

    /// As it was shown to them.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbering, sequence) = text.split_once('-')?;
        Some(Self {
            numbering: u64::from_str_radix(numbering, 16).ok()?,
            sequence: sequence.parse().ok()?,
        })
    }
}

/// What a client gets next.
#[derive(Clone, Debug, Default)]
pub struct Next {
    /// In order.
    pub events: Vec<Numbered>,
    /// Events before these that are not known any more.
    pub dropped: u64,
    /// Behind them.
    pub place: Option<Place>,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    news: watch::Sender<u64>,
    /// The live connections are known.
    knows: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Each a `Connection` as it goes out, by id.
    live: BTreeMap<u64, Bytes>,
    ring: VecDeque<Numbered>,
    /// Behind the last event; unset before the first.
    place: Option<Place>,
    /// The next message is the first of a stream.
    is_fresh: bool,
}

impl Default for Hub {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            news: watch::Sender::new(0),
            knows: watch::Sender::new(false),
        }))
    }
}

impl Hub {
    /// Follows the interceptor until `shutdown`.
    pub async fn follow(&self, channel: Channel, status: Status, shutdown: CancellationToken) {
        let (events, lost) = (status.counter("events"), status.counter("events_lost"));
        let live = status.counter("connections_known_now");
        let incomplete = AtomicBool::new(false);
        let connect = || {
            let mut client = InterceptorClient::new(channel.clone());
            let anew = incomplete.swap(false, Ordering::Relaxed);
            let incomplete = &incomplete;
            async move {
                if self.place().is_none()
                    && !anew
                    && let Err(refusal) = self.recall(&mut client).await
                {
                    // half of it is none
                    *self.lock() = State::default();
                    return Err(refusal);
                }
                let request = self.request(anew);
                let messages = client.watch_events(request).await?.into_inner();
                self.0.knows.send_replace(true);
                // after a loss the table of live connections is not what it should be: begin anew
                Ok(messages.take_while(move |_| ready(!incomplete.load(Ordering::Relaxed))))
            }
        };
        let take = |message: ConnectionEvents| {
            events.add(u64::try_from(message.events.len()).unwrap_or(0));
            lost.add(message.dropped);
            incomplete.fetch_or(message.dropped > 0, Ordering::Relaxed);
            let known = self.take(message);
            live.set(u64::try_from(known).unwrap_or(u64::MAX));
        };
        grpc::follow("the interceptor", shutdown, connect, take).await;
    }

    /// What the interceptor knows from before we were there: whoever watched our predecessor goes on behind what he saw last.
    ///
    /// The live connections are listed after the events, and the events after those are told again over the list: they end in
    /// what is so.
    async fn recall(&self, client: &mut InterceptorClient<Channel>) -> Result<(), tonic::Status> {
        let mut now = client
            .watch_events(WatchEventsRequest::default())
            .await?
            .into_inner();
        let Some(now) = now.message().await?.and_then(|message| message.position) else {
            return Ok(());
        };
        let kept = u64::try_from(KEPT).unwrap_or(u64::MAX);
        let request = WatchEventsRequest {
            include_live: false,
            resume_after: Some(Position {
                numbering: now.numbering,
                sequence: now.sequence.saturating_sub(kept),
            }),
        };
        let mut before = client.watch_events(request).await?.into_inner();
        while let Some(message) = before.message().await? {
            let position = message.position;
            self.take(message);
            if position.is_none_or(|at| at.numbering != now.numbering || at.sequence >= now.sequence) {
                break;
            }
        }
        let mut listed = client
            .list_connections(ListConnectionsRequest {})
            .await?
            .into_inner();
        let mut live = BTreeMap::new();
        while let Some(message) = listed.message().await? {
            let connections = message.connections.into_iter();
            live.extend(connections.map(|from| (from.id, written(from))));
        }
        self.lock().live = live;
        Ok(())
    }

    /// Where to go on; `anew`: the live ones first.
    fn request(&self, anew: bool) -> WatchEventsRequest {
        let mut state = self.lock();
        state.is_fresh = true;
        let place = state.place.filter(|_| !anew);
        if place.is_none() {
            state.live.clear();
        }
        WatchEventsRequest {
            include_live: true,
            resume_after: place.map(|place| Position {
                numbering: place.numbering,
                sequence: place.sequence,
            }),
        }
    }

    /// Waits until the interceptor has said for the first time what is live.
    pub async fn knows(&self) {
        // the sender is here
        let _ = self.0.knows.subscribe().wait_for(|knows| *knows).await;
    }

    /// Gives the number of live connections.
    fn take(&self, message: ConnectionEvents) -> usize {
        let mut state = self.lock();
        state.take(message);
        let known = state.live.len();
        drop(state);
        self.0.news.send_modify(|turn| *turn = turn.wrapping_add(1));
        known
    }

    /// Changes whenever there may be something new.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    /// The live connections behind the one with the id `after`, by id, as they go out.
    pub fn live(&self, after: u64) -> Vec<(u64, Bytes)> {
        let state = self.lock();
        state
            .live
            .range(after.saturating_add(1)..)
            .map(|(id, connection)| (*id, connection.clone()))
            .collect()
    }

    /// One that is live.
    pub fn get(&self, id: u64) -> Option<Connection> {
        let found = self.lock().live.get(&id).cloned()?;
        // it was written here
        Connection::decode(found).ok()
    }

    /// Behind the last event.
    pub fn place(&self) -> Option<Place> {
        self.lock().place
    }

    /// The live connections, and the place from which on events tell of them.
    pub fn begin(&self) -> (VecDeque<Bytes>, Option<Place>) {
        let state = self.lock();
        (state.live.values().cloned().collect(), state.place)
    }

    /// What is behind `place`, at most a few hundred at once. `None`: from the first event that is known.
    pub fn after(&self, place: Option<Place>) -> Next {
        self.lock().after(place)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, message: ConnectionEvents) {
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
        if self
            .place
            .is_some_and(|place| place.numbering != position.numbering)
        {
            self.ring.clear();
            if is_first {
                // numbering began anew, and nothing is live
                self.live.clear();
            }
        }
        let behind = u64::try_from(message.events.len()).unwrap_or(0);
        let mut sequence = position.sequence.saturating_sub(behind);
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
            if self.ring.len() >= KEPT {
                self.ring.pop_front();
            }
            self.ring.push_back((sequence, event));
        }
        self.place = Some(Place {
            numbering: position.numbering,
            sequence: position.sequence,
        });
    }

    fn after(&self, place: Option<Place>) -> Next {
        let Some(now) = self.place else {
            return Next {
                place,
                ..Next::default()
            };
        };
        let oldest = self.ring.front().map_or(now.sequence + 1, |(number, _)| *number);
        let (seen, mut dropped) = match place {
            Some(place) if place.numbering == now.numbering => (place.sequence, 0),
            // numbering began anew: how much was lost meanwhile nobody knows; it is not nothing
            Some(_) => (oldest.saturating_sub(1), 1),
            None => (oldest.saturating_sub(1), 0),
        };
        let first = self.ring.partition_point(|(number, _)| *number <= seen);
        let events: Vec<Numbered> = self.ring.range(first..).take(BATCH).cloned().collect();
        let last = events
            .last()
            .map_or(now.sequence.max(seen), |(number, _)| *number);
        let gone = last.saturating_sub(seen) - u64::try_from(events.len()).unwrap_or(0);
        dropped += gone;
        Next {
            events,
            dropped,
            place: Some(Place {
                numbering: now.numbering,
                sequence: last,
            }),
        }
    }
}

/// As it goes out.
fn written(from: interceptor::Connection) -> Bytes {
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

#[cfg(test)]
mod tests;
