//! `Watch`, for many at once: a message is written out once, and each client that wants the same gets the same octets.

use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll},
};

use api::v1::{ConnectionEventKind, WatchConnectionsRequest, connections_server::ConnectionsServer};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderValue, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message as _;
use proto::place::Place;
use tokio::sync::watch;
use tonic::{
    Code, Status,
    body::Body,
    codec::{Codec as _, Streaming},
    server::NamedService,
};
use tonic_prost::ProstCodec;

use super::{
    Service,
    views::{View, Views, Written},
};
use crate::{fields::Fields, hub::Hub, rpc::HEARTBEAT};

/// Live connections in one message.
const LISTED: usize = 500;
const PATH: &str = "/portmaster.api.v1.Connections/Watch";

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
        Box::pin(async move { Ok(service.answer(request).await.unwrap_or_else(Status::into_http)) })
    }
}

impl Service {
    /// As tonic answers, but for the octets of the messages, which are not copied.
    async fn answer(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let encoding = request.headers().get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(Status::unimplemented("compressed requests are not read"));
        }
        let mut codec = ProstCodec::<Written, WatchConnectionsRequest>::default();
        let mut asked = Streaming::new_request(codec.decoder(), request.into_body(), None, None);
        let asked = asked.message().await?;
        let asked = asked.ok_or_else(|| Status::internal("the request has no message"))?;
        let frames = self.frames(asked)?.map(Frame::data);
        let mut end = http::HeaderMap::new();
        Status::new(Code::Ok, "").add_header(&mut end)?;
        let frames = frames.chain(stream::iter([Frame::trailers(end)]));
        let body = StreamBody::new(frames.map(Ok::<_, Infallible>));
        let mut response = http::Response::new(Body::new(body));
        let kind = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    /// What a client gets, message by message, as gRPC sends them.
    pub(super) fn frames(
        &self,
        request: WatchConnectionsRequest,
    ) -> Result<impl Stream<Item = Bytes> + Send + use<>, Status> {
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
            view: View::new(request.filter, request.read_mask, &self.descriptor)?,
            views: self.views.clone(),
            news: self.hub.news(),
            live,
            place: resume.or(now),
            is_first: true,
            unsent: 0,
            hub: self.hub.clone(),
        };
        Ok(stream::unfold(watcher, async |mut watcher| {
            let message = watcher.next().await?;
            Some((message, watcher))
        }))
    }
}

/// A client, and where it is. It is asked for the next message only when the last one is on its way.
struct Watcher {
    hub: Hub,
    view: View,
    views: Views,
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
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(message) = self.live() {
            return Some(message.framed());
        }
        if std::mem::take(&mut self.is_first) {
            // an answer at once: the client knows that it is heard, and from where on
            return Some(self.nothing());
        }
        let give_up = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(give_up);
        loop {
            self.news.mark_unchanged();
            let next = self.hub.after(self.place);
            self.place = next.place;
            self.unsent += next.dropped;
            if let Some(frame) = self.views.frame(&self.view, &next, self.unsent) {
                self.unsent = 0;
                return Some(frame);
            }
            if next.batch.is_none() {
                tokio::select! {
                    changed = self.news.changed() => changed.ok()?,
                    () = &mut give_up => return Some(self.nothing()),
                }
            }
        }
    }

    /// No events, but where it is.
    fn nothing(&mut self) -> Bytes {
        let message = Written {
            events: Vec::new(),
            dropped: std::mem::take(&mut self.unsent),
            event_id: self.place.map(Place::text).unwrap_or_default(),
        };
        message.framed()
    }

    fn live(&mut self) -> Option<Written> {
        let mut events = Vec::new();
        while events.len() < LISTED
            && let Some(connection) = self.live.pop_front()
        {
            if self.view.fits(&connection) {
                let mut fields = Fields::of(&connection);
                let started = fields.find(|field| field.number == STARTED);
                let event = WrittenEvent {
                    kind: ConnectionEventKind::Live.into(),
                    time: started.map(|started| connection.slice_ref(started.value.octets())),
                    connection,
                };
                events.push(self.view.cut(&event.encode_to_vec().into()));
            }
        }
        (!events.is_empty()).then(|| Written {
            events,
            ..Written::default()
        })
    }
}
