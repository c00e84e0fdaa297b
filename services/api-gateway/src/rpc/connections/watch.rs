//! `Watch`, for many at once: an event is written out once, and each client gets the same octets.

use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use api::v1::{ConnectionEventKind, WatchConnectionsRequest, connections_server::ConnectionsServer};
use bytes::Bytes;
use futures_util::{
    Stream,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;

use super::Service;
use crate::{
    fields::Fields,
    hub::{CONNECTION, Hub, Next, Place, connection_of},
    mask::Mask,
    rpc::{HEARTBEAT, filter::Filter},
};

/// Live connections in one message.
const LISTED: usize = 500;
/// Between two messages, so that a storm comes in few large ones.
const PAUSE: Duration = Duration::from_millis(20);
const PATH: &str = "/portmaster.api.v1.Connections/Watch";

/// A `WatchConnectionsReply` whose events are written out already: the same on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Written {
    /// Each a `ConnectionEvent`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
    /// Events that this client lost before these.
    #[prost(uint64, tag = "2")]
    pub dropped: u64,
    /// Behind the last of these events.
    #[prost(string, tag = "3")]
    pub event_id: String,
}

/// A `ConnectionEvent` of a connection that is written out already.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WrittenEvent {
    #[prost(enumeration = "ConnectionEventKind", tag = "1")]
    kind: i32,
    /// A `Timestamp`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    time: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "3")]
    connection: Bytes,
}

/// In a `ConnectionEvent`, beside its connection.
const KIND: u32 = 1;
const TIME: u32 = 2;
/// In a `Connection`.
const STARTED: u32 = 8;

/// The methods of `Connections`, with this one in our own form.
#[derive(Clone, Debug)]
pub struct Watching {
    service: Service,
    others: ConnectionsServer<Service>,
}

impl Watching {
    /// Of this service.
    pub fn new(service: Service) -> Self {
        Self {
            others: ConnectionsServer::new(service.clone()),
            service,
        }
    }
}

impl NamedService for Watching {
    const NAME: &'static str = <ConnectionsServer<Service> as NamedService>::NAME;
}

impl tower::Service<http::Request<Body>> for Watching {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.others.call(request);
        }
        let service = self.service.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Written, WatchConnectionsRequest>::default();
            Ok(Grpc::new(codec).server_streaming(service, request).await)
        })
    }
}

impl ServerStreamingService<WatchConnectionsRequest> for Service {
    type Response = Written;
    type ResponseStream = BoxStream<'static, Result<Written, Status>>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchConnectionsRequest>) -> Self::Future {
        let messages = self.written(request.into_inner());
        std::future::ready(messages.map(|messages| Response::new(Box::pin(messages) as _)))
    }
}

impl Service {
    /// What a client gets, message by message.
    pub(super) fn written(
        &self,
        request: WatchConnectionsRequest,
    ) -> Result<impl Stream<Item = Result<Written, Status>> + Send + use<>, Status> {
        let resume = match request.resume_after.as_str() {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| {
                Status::invalid_argument("resume_after: not an event_id of ours; begin without")
            })?),
        };
        let (live, now) = match request.include_live {
            true => self.hub.begin(),
            false => (VecDeque::new(), self.hub.place()),
        };
        let watcher = Watcher {
            filter: Filter::new(request.filter)?,
            mask: Mask::new(request.read_mask, &self.descriptor)?.inside(CONNECTION, &[KIND, TIME]),
            news: self.hub.news(),
            live,
            place: resume.or(now),
            is_first: true,
            unsent: 0,
            hub: self.hub.clone(),
        };
        Ok(stream::unfold(watcher, async |mut watcher| {
            let message = watcher.next().await?;
            Some((Ok(message), watcher))
        }))
    }
}

/// A client, and where it is. It is asked for the next message only when the last one is on its way.
struct Watcher {
    hub: Hub,
    filter: Filter,
    /// Of events.
    mask: Mask,
    news: watch::Receiver<u64>,
    /// To be told before all else.
    live: VecDeque<Bytes>,
    place: Option<Place>,
    is_first: bool,
    /// Dropped, and not said yet.
    unsent: u64,
}

impl Watcher {
    /// `None`: nobody follows connections any more.
    async fn next(&mut self) -> Option<Written> {
        if let Some(message) = self.live() {
            return Some(message);
        }
        if std::mem::take(&mut self.is_first) {
            // an answer at once: the client knows that it is heard, and from where on
            return Some(self.message(Vec::new()));
        }
        tokio::time::sleep(PAUSE).await;
        let give_up = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(give_up);
        loop {
            self.news.mark_unchanged();
            let Next {
                events,
                dropped,
                place,
            } = self.hub.after(self.place);
            self.place = place;
            self.unsent += dropped;
            let is_end = events.is_empty();
            let fitting = events.iter().filter(|(_, event)| {
                connection_of(event).is_some_and(|connection| self.filter.fits(&connection))
            });
            let fitting: Vec<Bytes> = fitting.map(|(_, event)| self.mask.apply(event)).collect();
            if !fitting.is_empty() || self.unsent > 0 {
                return Some(self.message(fitting));
            }
            if is_end {
                tokio::select! {
                    changed = self.news.changed() => changed.ok()?,
                    () = &mut give_up => return Some(self.message(Vec::new())),
                }
            }
        }
    }

    fn message(&mut self, events: Vec<Bytes>) -> Written {
        Written {
            events,
            dropped: std::mem::take(&mut self.unsent),
            event_id: self.place.map(Place::text).unwrap_or_default(),
        }
    }

    fn live(&mut self) -> Option<Written> {
        let mut events = Vec::new();
        while events.len() < LISTED
            && let Some(connection) = self.live.pop_front()
        {
            if self.filter.fits(&connection) {
                let mut fields = Fields::of(&connection);
                let started = fields.find(|field| field.number == STARTED);
                let event = WrittenEvent {
                    kind: ConnectionEventKind::Live.into(),
                    time: started.map(|started| connection.slice_ref(started.value.octets())),
                    connection,
                };
                events.push(self.mask.apply(&event.encode_to_vec().into()));
            }
        }
        (!events.is_empty()).then(|| Written {
            events,
            ..Written::default()
        })
    }
}
