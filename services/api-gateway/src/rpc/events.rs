//! `Events`: what becomes of the mesh itself. It is looked at once a second, as long as somebody watches, and what is otherwise than
//! before is told.

mod state;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use api::v1::{Event, WatchEventsReply, WatchEventsRequest, events_server::Events};
use futures_util::{Stream, future::join, stream};
use proto::place::Place;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{HEARTBEAT, system};
use crate::audit::Audit;
use state::{Found, LINGER, State};

const LOOK: Duration = Duration::from_secs(1);

/// See the module's head. Clones are the same.
#[derive(Clone, Debug)]
pub struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: system::Service,
    audit: Audit,
    state: Mutex<State>,
    news: watch::Sender<u64>,
    /// Somebody watches.
    wanted: Notify,
}

impl Service {
    /// Of these.
    pub fn new(system: system::Service, audit: Audit) -> Self {
        Self(Arc::new(Inner {
            system,
            audit,
            state: Mutex::default(),
            news: watch::Sender::new(0),
            wanted: Notify::new(),
        }))
    }

    /// Looks, while somebody watches, until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let looking = async {
            let mut watched: Option<Instant> = None;
            loop {
                if self.0.news.receiver_count() > 0 {
                    watched = Some(Instant::now());
                } else if watched.is_none_or(|watched| watched.elapsed() > LINGER) {
                    self.0.wanted.notified().await;
                    watched = Some(Instant::now());
                }
                self.look().await;
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = looking => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn look(&self) {
        let system = &self.0.system;
        let (services, pause) = join(system.services(), system.paused()).await;
        let found = Found {
            services,
            pause: pause.ok(),
        };
        let before = self.lock().last;
        let last = self.lock().take(found, &self.0.audit);
        if before != last {
            self.0.news.send_replace(last);
        }
    }

    /// What a client that comes now is to hear, and from where on.
    async fn begin(&self, resume_after: &str) -> Result<(Vec<Event>, Place), Status> {
        let known = match resume_after {
            "" => None,
            text => Some(Place::parse(text).ok_or_else(|| {
                Status::invalid_argument("resume_after: not an event_id of ours; begin without")
            })?),
        };
        let is_fresh = self
            .lock()
            .looked
            .is_some_and(|looked| looked.elapsed() < 2 * LOOK);
        if !is_fresh {
            self.look().await;
        }
        self.0.wanted.notify_one();
        let state = self.lock();
        Ok(match known {
            Some(place) if place.numbering == state.numbering && place.sequence <= state.last => {
                (vec![], place)
            }
            _ => (state.all(), state.place()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client, and where it is.
struct Watcher {
    service: Service,
    news: watch::Receiver<u64>,
    place: Place,
    /// To be told before all else; none once it was.
    first: Option<Vec<Event>>,
}

impl Watcher {
    async fn next(&mut self) -> Option<WatchEventsReply> {
        if let Some(events) = self.first.take() {
            return Some(self.message(events));
        }
        let give_up = tokio::time::sleep(HEARTBEAT);
        tokio::pin!(give_up);
        loop {
            self.news.mark_unchanged();
            let said = self.service.lock().after(self.place);
            let Some(said) = said else {
                // as for whoever comes anew, and he is told that he missed something
                let (events, place) = self.service.begin("").await.ok()?;
                self.place = place;
                return Some(WatchEventsReply {
                    dropped: 1,
                    ..self.message(events)
                });
            };
            if !said.events.is_empty() || said.dropped > 0 {
                self.place = Place::parse(&said.event_id)?;
                return Some(said);
            }
            tokio::select! {
                changed = self.news.changed() => changed.ok()?,
                () = &mut give_up => return Some(self.message(Vec::new())),
            }
        }
    }

    fn message(&self, events: Vec<Event>) -> WatchEventsReply {
        WatchEventsReply {
            events,
            dropped: 0,
            event_id: self.place.text(),
        }
    }
}

#[tonic::async_trait]
impl Events for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEventsReply, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let news = self.0.news.subscribe();
        let (events, place) = self.begin(&request.get_ref().resume_after).await?;
        let watcher = Watcher {
            service: self.clone(),
            news,
            place,
            first: Some(events),
        };
        Ok(Response::new(Box::pin(stream::unfold(
            watcher,
            async |mut watcher| {
                let message = watcher.next().await?;
                Some((Ok(message), watcher))
            },
        ))))
    }
}
