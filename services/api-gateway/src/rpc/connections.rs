//! `Connections`: from the hub alone.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use api::v1::{
    Connection, ConnectionEvent, ConnectionEventKind, GetConnectionRequest, ListConnectionsReply,
    ListConnectionsRequest, WatchConnectionsReply, WatchConnectionsRequest, connections_server::Connections,
};
use futures_util::{Stream, stream};
use prost_reflect::MessageDescriptor;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{HEARTBEAT, filter::Filter};
use crate::{
    hub::{Hub, Next, Place},
    mask::Mask,
};

const PAGE: usize = 1000;
const LONGEST_PAGE: usize = 10_000;
/// Live connections in one message.
const LISTED: usize = 500;
/// Between two messages, so that a storm comes in few large ones.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Service {
    /// Who knows.
    pub hub: Hub,
    /// Of `Connection`.
    pub descriptor: MessageDescriptor,
}

#[tonic::async_trait]
impl Connections for Service {
    async fn list(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsReply>, Status> {
        let request = request.into_inner();
        let filter = Filter::new(request.filter)?;
        let mask = Mask::new(request.read_mask, &self.descriptor)?;
        let after = match request.page_token.as_str() {
            "" => 0,
            text => text
                .parse()
                .map_err(|_| Status::invalid_argument("page_token: not one of ours; begin without"))?,
        };
        let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
            0 => PAGE,
            size => size.min(LONGEST_PAGE),
        };
        let mut fitting = self
            .hub
            .live(after)
            .into_iter()
            .filter(|connection| filter.fits(connection));
        let page: Vec<Arc<Connection>> = fitting.by_ref().take(size).collect();
        let next_page_token = match (fitting.next(), page.last()) {
            (Some(_), Some(last)) => last.id.to_string(),
            _ => String::new(),
        };
        let connections = page
            .iter()
            .map(|connection| mask.apply(Connection::clone(connection)));
        Ok(Response::new(ListConnectionsReply {
            connections: connections.collect(),
            next_page_token,
        }))
    }

    async fn get(&self, request: Request<GetConnectionRequest>) -> Result<Response<Connection>, Status> {
        let id = request.get_ref().id;
        let found = self.hub.get(id);
        let found = found.ok_or_else(|| Status::not_found(format!("no live connection has the id {id}")))?;
        Ok(Response::new(Connection::clone(&found)))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchConnectionsReply, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchConnectionsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let resume = match request.resume_after.as_str() {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| {
                Status::invalid_argument("resume_after: not an event_id of ours; begin without")
            })?),
        };
        let (live, now) = self.hub.begin();
        let watcher = Watcher {
            filter: Filter::new(request.filter)?,
            mask: Mask::new(request.read_mask, &self.descriptor)?,
            news: self.hub.news(),
            live: if request.include_live {
                live.into()
            } else {
                VecDeque::new()
            },
            place: resume.or(now),
            is_first: true,
            unsent: 0,
            hub: self.hub.clone(),
        };
        let messages = stream::unfold(watcher, async |mut watcher| {
            let message = watcher.next().await?;
            Some((Ok(message), watcher))
        });
        Ok(Response::new(Box::pin(messages)))
    }
}

/// A client, and where it is. It is asked for the next message only when the last one is on its way.
struct Watcher {
    hub: Hub,
    filter: Filter,
    mask: Mask,
    news: watch::Receiver<u64>,
    /// To be told before all else.
    live: VecDeque<Arc<Connection>>,
    place: Option<Place>,
    is_first: bool,
    /// Dropped, and not said yet.
    unsent: u64,
}

impl Watcher {
    /// `None`: nobody follows connections any more.
    async fn next(&mut self) -> Option<WatchConnectionsReply> {
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
            let fitting = events.into_iter().filter(|(_, event)| {
                event
                    .connection
                    .as_ref()
                    .is_some_and(|connection| self.filter.fits(connection))
            });
            let fitting: Vec<ConnectionEvent> = fitting
                .map(|(_, event)| self.masked(ConnectionEvent::clone(&event)))
                .collect();
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

    fn message(&mut self, events: Vec<ConnectionEvent>) -> WatchConnectionsReply {
        WatchConnectionsReply {
            events,
            dropped: std::mem::take(&mut self.unsent),
            event_id: self.place.map(Place::text).unwrap_or_default(),
        }
    }

    fn live(&mut self) -> Option<WatchConnectionsReply> {
        let mut events = Vec::new();
        while events.len() < LISTED
            && let Some(connection) = self.live.pop_front()
        {
            if self.filter.fits(&connection) {
                events.push(self.masked(ConnectionEvent {
                    kind: ConnectionEventKind::Live.into(),
                    time: connection.started,
                    connection: Some(Connection::clone(&connection)),
                }));
            }
        }
        (!events.is_empty()).then(|| WatchConnectionsReply {
            events,
            ..WatchConnectionsReply::default()
        })
    }

    fn masked(&self, mut event: ConnectionEvent) -> ConnectionEvent {
        event.connection = event.connection.map(|connection| self.mask.apply(connection));
        event
    }
}
