//! What the interceptor says happened, collected from its gRPC stream.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use proto::interceptor::v1::{ConnectionEvent, WatchEventsRequest, interceptor_client::InterceptorClient};
use tonic::transport::{Channel, Endpoint};

use crate::wait::eventually;

/// A lazy channel to a service's Unix socket.
///
/// # Panics
/// If the path cannot be part of an address.
pub fn channel(socket: &Path) -> Channel {
    let address = format!("unix://{}", socket.display());
    Endpoint::try_from(address)
        .expect("a socket path is an address")
        .connect_lazy()
}

/// Follows the stream on a thread of its own, reconnecting for as long as it lives.
#[derive(Debug)]
pub struct Events {
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug, Default)]
struct Seen {
    events: Vec<ConnectionEvent>,
    dropped: u64,
    connected: bool,
}

impl Events {
    /// Starts to follow, and returns once the stream is open.
    ///
    /// # Panics
    /// If it does not open.
    pub fn follow(socket: &Path) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("build a tokio runtime");
        let seen = Arc::new(Mutex::new(Seen::default()));
        runtime.spawn(follow(socket.to_owned(), Arc::clone(&seen)));
        eventually("the event stream is open", || lock(&seen).connected.then_some(()));
        Self {
            seen,
            runtime: Some(runtime),
        }
    }

    /// All events so far.
    pub fn all(&self) -> Vec<ConnectionEvent> {
        lock(&self.seen).events.clone()
    }

    /// How many the stream says it had to leave out.
    pub fn dropped(&self) -> u64 {
        lock(&self.seen).dropped
    }

    /// Forgets what was seen so far.
    pub fn clear(&self) {
        lock(&self.seen).events.clear();
    }

    /// The first event, past or to come, that `wanted` accepts.
    #[track_caller]
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&ConnectionEvent) -> bool) -> ConnectionEvent {
        eventually(&format!("there is an event: {what}"), || {
            lock(&self.seen)
                .events
                .iter()
                .find(|event| wanted(event))
                .cloned()
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn follow(socket: PathBuf, seen: Arc<Mutex<Seen>>) {
    let mut resume_after = None;
    loop {
        let mut client = InterceptorClient::new(channel(&socket)).max_decoding_message_size(64 << 20);
        if let Ok(reply) = client
            .watch_events(WatchEventsRequest {
                include_live: true,
                resume_after,
            })
            .await
        {
            lock(&seen).connected = true;
            let mut stream = reply.into_inner();
            while let Ok(Some(batch)) = stream.message().await {
                let mut seen = lock(&seen);
                resume_after = batch.position.or(resume_after);
                seen.dropped += batch.dropped;
                seen.events.extend(batch.events);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
