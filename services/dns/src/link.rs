//! The stream that the interceptor opens: it learns what a program is told before the program does, and says which server a
//! redirected client had asked.
//!
//! Invariant: an answer waits for the interceptor's word at most 200 ms, and not at all where the name lies in the socket that
//! the interceptor reads before it decides (`aside`), or while it cannot be reached: connections are then decided without a name.
//! Who asks is waited for three seconds where the interceptor is being restarted.

mod aside;
mod service;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use daemon::peer::Peer;
use proto::{
    convert::octets,
    interceptor::v1::{FromDns, OriginQuestion, ToDns, Told, ToldName, from_dns::Said, to_dns},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use verdict::Protocol;

use aside::{Aside, Offer, Put};
pub use service::Service;

/// Longer, and the program had better get its answer.
const PATIENCE: Duration = Duration::from_millis(200);
/// An interceptor that is restarted calls again by then, and clients have more patience.
const COMES_BACK: Duration = Duration::from_secs(3);
/// At the start, for the interceptor to call.
const FIRST: Duration = Duration::from_secs(2);
/// Names in one message.
const BATCH: usize = 512;

/// Tells and asks; clones share one stream.
#[derive(Clone, Debug, Default)]
pub struct Link {
    state: Arc<Mutex<State>>,
    /// It is there while there is a stream: both change under the state's lock.
    interceptor: Arc<Peer>,
    counts: Arc<Counts>,
}

/// Messages that the interceptor knows of.
#[derive(Debug, Default)]
struct Counts {
    /// Without a wait.
    aside: AtomicU64,
    /// By its word.
    acknowledged: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// How many there were.
    streams: u64,
    /// Of the present stream.
    stream: Option<mpsc::UnboundedSender<FromDns>>,
    /// Of the present stream, where its follower reads there as well.
    aside: Option<Arc<Aside>>,
    /// Of the last message; grows over all streams.
    sequence: u64,
    unacknowledged: HashMap<u64, oneshot::Sender<()>>,
    asked: HashMap<u64, oneshot::Sender<Option<SocketAddr>>>,
}

impl Link {
    /// Tells of names without waiting. True: the interceptor knows them before it decides about another packet.
    pub fn tell_aside(&self, names: Vec<ToldName>) -> bool {
        let Some(aside) = self.lock().aside.clone() else {
            return false;
        };
        let told = Told {
            names,
            ..Told::default()
        };
        let put = aside.put(&told);
        if put == Put::Closed {
            let mut state = self.lock();
            if state.aside.as_ref().is_some_and(|now| Arc::ptr_eq(now, &aside)) {
                state.aside = None;
            }
        }
        if put == Put::Done {
            self.counts.aside.fetch_add(1, Ordering::Relaxed);
        }
        put == Put::Done
    }

    /// How many messages the interceptor knows of: those that nobody waited for, and those that it acknowledged.
    pub fn told(&self) -> (u64, u64) {
        let Counts { aside, acknowledged } = &*self.counts;
        (
            aside.load(Ordering::Relaxed),
            acknowledged.load(Ordering::Relaxed),
        )
    }

    /// Tells of names; true once the interceptor knows them.
    pub async fn tell(&self, names: Vec<ToldName>) -> bool {
        let (tell, known) = oneshot::channel();
        let sent = {
            let mut state = self.lock();
            let sequence = state.next();
            let told = Told {
                sequence,
                names,
                again: false,
            };
            let sent = state.send(Said::Told(told));
            if sent {
                state.unacknowledged.insert(sequence, tell);
            }
            sent
        };
        let known = sent && matches!(tokio::time::timeout(PATIENCE, known).await, Ok(Ok(())));
        if known {
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        known
    }

    /// Waits until the interceptor listens, but not for ever.
    pub async fn listens(&self) {
        self.interceptor.is_expected();
        // without it connections are decided without names, and names are answered all the same
        self.interceptor.comes_back(Instant::now(), FIRST).await;
    }

    /// The server that `client` had asked when its query came in at `server`, where it was redirected.
    pub async fn origin(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Option<SocketAddr> {
        let began = Instant::now();
        loop {
            if let Some((request_id, answer)) = self.ask_origin(protocol, client, server) {
                let by = self.interceptor.answers_by(began, PATIENCE, COMES_BACK);
                match tokio::time::timeout_at(by, answer).await {
                    Ok(Ok(asked)) => return asked,
                    // its stream ended
                    Ok(Err(_)) => {}
                    Err(_) => {
                        self.lock().asked.remove(&request_id);
                        return None;
                    }
                }
            }
            if !self.interceptor.comes_back(began, COMES_BACK).await {
                return None;
            }
        }
    }

    /// Its number, and where the answer comes; none without a stream.
    fn ask_origin(
        &self,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Option<(u64, oneshot::Receiver<Option<SocketAddr>>)> {
        let (tell, answer) = oneshot::channel();
        let mut state = self.lock();
        let request_id = state.next();
        let question = OriginQuestion {
            request_id,
            protocol: protocol.0.into(),
            client_address: octets(client.ip()),
            client_port: client.port().into(),
            server_address: octets(server.ip()),
            server_port: server.port().into(),
        };
        if !state.send(Said::Origin(question)) {
            self.interceptor.went();
            state.stream = None;
            return None;
        }
        state.asked.insert(request_id, tell);
        Some((request_id, answer))
    }

    fn heard(&self, reply: ToDns) {
        let mut state = self.lock();
        match reply.said {
            Some(to_dns::Said::Acknowledged(sequence)) => {
                if let Some(waiting) = state.unacknowledged.remove(&sequence) {
                    // whoever waited may have given up
                    let _ = waiting.send(());
                }
            }
            Some(to_dns::Said::Origin(answer)) => {
                if let Some(waiting) = state.asked.remove(&answer.request_id) {
                    let port = u16::try_from(answer.server_port).unwrap_or_default();
                    let server =
                        address(&answer.server_address).map(|address| SocketAddr::new(address, port));
                    let _ = waiting.send(server);
                }
            }
            // what it gives back is for the names; a newer interceptor says more
            Some(to_dns::Said::Known(_)) | None => {}
        }
    }

    /// Waits for the follower of stream `number` to take the offer, and uses it. Never ends.
    async fn use_aside(&self, offer: Option<Offer>, number: u64) {
        if let Some(offer) = offer {
            match offer.taken().await {
                Ok(aside) => {
                    let mut state = self.lock();
                    if state.streams == number {
                        state.aside = Some(Arc::new(aside));
                    }
                }
                Err(error) => tracing::warn!(%error, "each name waits for the interceptor's word"),
            }
        }
        std::future::pending::<()>().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // nothing in here is left half done by a panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.sequence += 1;
        // who gave up waiting leaves an entry behind
        if self.unacknowledged.len() > 4 * BATCH {
            self.unacknowledged.retain(|_, waiting| !waiting.is_closed());
        }
        self.sequence
    }

    fn send(&self, said: Said) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.send(FromDns { said: Some(said) }).is_ok())
    }

    /// Whoever waits for the old stream waits no longer.
    fn lost(&mut self) {
        self.streams += 1;
        self.stream = None;
        self.aside = None;
        self.unacknowledged.clear();
        self.asked.clear();
    }

    /// The number of the stream.
    fn begin(&mut self, stream: mpsc::UnboundedSender<FromDns>, known: Vec<ToldName>) -> u64 {
        self.lost();
        self.stream = Some(stream);
        let mut known = known.into_iter().peekable();
        while known.peek().is_some() {
            let names = known.by_ref().take(BATCH).collect();
            let told = Told {
                sequence: self.next(),
                names,
                again: true,
            };
            self.send(Said::Told(told));
        }
        self.streams
    }
}

/// 4 or 16 bytes in network order.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(v6).into())
}
