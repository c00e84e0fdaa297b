//! What happens to connections, followed once and kept for all who watch.
//!
//! Invariant: a client that reads slowly costs the others nothing: events stand in one ring for all, and each client has a place
//! in it. Whoever falls out at its end is told how much he lost.
//!
//! Events are told in batches: at once after a while of nothing, then every 20 ms; all who watch wake for the same one.
//!
//! All is kept as it goes out: an event is written once, whoever and how many watch, and takes a few hundred octets.

mod ring;
mod state;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use api::v1::Connection;
use bytes::Bytes;
use daemon::{grpc, status::Status};
use futures_util::{StreamExt as _, future::ready};
use prost::Message as _;
use proto::{
    interceptor::v1::{
        ConnectionEvents, ListConnectionsRequest, Position, WatchEventsRequest,
        interceptor_client::InterceptorClient,
    },
    place::Place,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use ring::KEPT;
pub use ring::{Batch, Next, Numbered};
pub use state::{CONNECTION, connection_of};
use state::{State, written};

/// Between two batches, so that a storm comes in few large ones.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Something came, and is not told yet.
    arrived: Notify,
    /// How many batches were told.
    news: watch::Sender<u64>,
    /// The live connections are known.
    knows: watch::Sender<bool>,
}

impl Default for Hub {
    fn default() -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            arrived: Notify::new(),
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
        let place = state.ring.place().filter(|_| !anew);
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
        self.0.arrived.notify_one();
        known
    }

    /// Tells what came, until `shutdown`.
    pub async fn tell(&self, shutdown: CancellationToken) {
        let telling = async {
            loop {
                self.0.arrived.notified().await;
                self.seal();
                tokio::time::sleep(PAUSE).await;
            }
        };
        shutdown.run_until_cancelled(telling).await;
    }

    /// As if it came from the interceptor, and were told.
    #[cfg(test)]
    pub fn told(&self, message: ConnectionEvents) {
        self.take(message);
        self.seal();
    }

    fn seal(&self) {
        self.lock().ring.seal();
        self.0.news.send_modify(|turn| *turn = turn.wrapping_add(1));
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
        self.lock().ring.place()
    }

    /// The live connections, and the place from which on events tell of them.
    pub fn begin(&self) -> (VecDeque<Bytes>, Option<Place>) {
        let state = self.lock();
        (state.live.values().cloned().collect(), state.ring.place())
    }

    /// What is behind `place`, at most a batch. `None`: from the first event that is known.
    pub fn after(&self, place: Option<Place>) -> Next {
        self.lock().ring.after(place)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
