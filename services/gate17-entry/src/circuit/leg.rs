//! A connection with one node of a circuit, through those before it.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gate17_proto::{
    map::NodeId,
    padding::{self, Grid},
};
use h2::{
    Ping, PingPong, Reason, SendStream,
    client::{Connection, ResponseFuture, SendRequest},
};
use http::{HeaderValue, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, Notify},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::heard::Talk;
use crate::blame::Seen;

/// Without the answer to a PING, or anything else, a node is silent.
const PONG: Duration = Duration::from_secs(3);
/// Times that a node may say other things instead.
const PATIENCE: usize = 10;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Leg {
    /// Whom with.
    pub(super) node: NodeId,
    /// What the node wants to be shown.
    pub(super) authorization: Option<HeaderValue>,
    /// What it is to fill its words up to, as a header says it.
    padding: Option<HeaderValue>,
    send: SendRequest<Bytes>,
    ping: Mutex<PingPong>,
    /// How often something came from it, and went there.
    talk: Arc<Talk>,
    /// Microseconds; 0: not measured.
    round_trip: AtomicU64,
    ended: Arc<OnceLock<Seen>>,
}

/// What the legs of one circuit share.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// Ends them all.
    pub(super) closed: CancellationToken,
    /// One ended by itself.
    pub(super) broke: Arc<Notify>,
}

impl Leg {
    /// Drives `connection` until it ends, or the circuit is closed. None only where its PINGs are somebody else's.
    pub(super) fn start<I>(
        node: NodeId,
        authorization: Option<HeaderValue>,
        padding: Option<Grid>,
        send: SendRequest<Bytes>,
        mut connection: Connection<I, Bytes>,
        talk: Arc<Talk>,
        ends: &Ends,
    ) -> Option<Self>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let ping = Mutex::new(connection.ping_pong()?);
        let ended = Arc::new(OnceLock::new());
        let (told, ends) = (Arc::clone(&ended), ends.clone());
        tokio::spawn(async move {
            tokio::select! {
                end = connection => {
                    // it ends once
                    let _ = told.set(end.err().map_or(Seen::Leaving, |error| seen(&error)));
                    ends.broke.notify_one();
                }
                () = ends.closed.cancelled() => {}
            }
        });
        Some(Self {
            node,
            authorization,
            padding: padding.map(|grid| grid.octets().into()),
            send,
            ping,
            talk,
            round_trip: AtomicU64::new(0),
            ended,
        })
    }

    /// Whether it takes new streams: a node that is to stop says so. None: yes.
    pub(super) fn refuses(&self) -> Option<Seen> {
        if let Some(ended) = self.ended.get() {
            return Some(*ended);
        }
        // what is not waited for does not wake anybody
        let mut context = Context::from_waker(Waker::noop());
        match self.send.clone().poll_ready(&mut context) {
            Poll::Ready(Err(error)) => Some(seen(&error)),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    /// How it ended; None while it lives.
    pub(super) fn ended(&self) -> Option<Seen> {
        self.ended.get().copied()
    }

    /// There and back, now; None where nothing came back in time.
    pub(super) async fn ping(&self) -> Option<Duration> {
        let exchange = async {
            let mut ping = self.ping.lock().await;
            // the answer to an earlier one may be still to come
            if ping.send_ping(Ping::opaque()).is_err() {
                poll_fn(|context| ping.poll_pong(context)).await?;
                ping.send_ping(Ping::opaque())?;
            }
            let began = Instant::now();
            poll_fn(|context| ping.poll_pong(context)).await?;
            Ok::<_, h2::Error>(began.elapsed())
        };
        let took = self.while_heard(exchange).await?.ok()?;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.round_trip.store(micros, Ordering::Relaxed);
        Some(took)
    }

    /// What comes of `answer`; None where the node is silent meanwhile.
    async fn while_heard<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let mut answer = std::pin::pin!(answer);
        for _ in 0..PATIENCE {
            let before = self.talk.heard();
            match timeout(PONG, &mut answer).await {
                Ok(done) => return Some(done),
                Err(_) if self.talk.heard() == before => return None,
                // it lives: the answer waits behind what it says
                Err(_) => {}
            }
        }
        None
    }

    /// What has passed so far.
    pub(super) fn talk(&self) -> &Talk {
        &self.talk
    }

    /// As measured last.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let measured = self.round_trip.load(Ordering::Relaxed);
        (measured > 0).then(|| Duration::from_micros(measured))
    }

    /// Sends a request's head.
    ///
    /// # Errors
    /// Where the connection takes none.
    pub(super) async fn request(
        &self,
        mut request: Request<()>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        if let Some(grid) = &self.padding {
            request.headers_mut().insert(padding::HEADER, grid.clone());
        }
        self.send.clone().ready().await?.send_request(request, false)
    }
}

/// What an error of a connection says of its node: words within its own TLS are its own.
pub(super) fn seen(error: &h2::Error) -> Seen {
    let is_altered = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    match error.reason() {
        // of TLS: what came is not the node's, or it says so of what came to it
        _ if error.get_io().is_some_and(is_altered) => Seen::Altered,
        _ if error.is_io() => Seen::Cut,
        Some(Reason::NO_ERROR) if error.is_go_away() => Seen::Leaving,
        Some(_) if error.is_go_away() || error.is_library() => Seen::Violated,
        _ => Seen::Cut,
    }
}

#[cfg(test)]
mod tests;
