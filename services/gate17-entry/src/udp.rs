//! Datagrams that were redirected here.
//!
//! The kernel tells flows apart by the client's address and port as this entry sees them, so that one session is one flow, and
//! answers to the client arrive from the address that its program asked. A session ends no later than the kernel forgets the
//! flow: after that the same port may be another program's.

mod now;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use daemon::status::Counter;
use proto::gate17::v1::{Refused, Tunnelled};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use verdict::Protocol;

use crate::{link::Link, redirected::plain, splice::Carried};

pub use now::Now;

/// The longest datagram.
const LONGEST: usize = 65_535;
/// Datagrams that wait while their way is opened, or is slow; what does not fit is lost, as on any network.
const QUEUE: usize = 256;
/// Sessions at once.
const MOST: usize = 8192;
/// Datagrams read before others get their turn.
const BATCH: usize = 64;
/// A flow that goes both ways for so long is a stream to the kernel, and remembered longer: two seconds
/// (`nf_conntrack_proto_udp.c`), and one for what waits on its way here.
const STREAM: Duration = Duration::from_secs(3);
/// A session that could not be opened is not tried again for each datagram.
const REST: Duration = Duration::from_secs(1);

/// A way through the tunnel for datagrams.
pub trait Datagrams: Send + 'static {
    /// Ids of the nodes, first to last, and the circuit's number.
    fn hops(&self) -> (Vec<String>, u64);
    /// Takes one to the far end; never waits: what does not fit is lost.
    fn send(&mut self, datagram: Bytes);
    /// The next one from there; `None`: the way is broken.
    fn receive(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// Opens ways.
pub trait Opener: Clone + Send + Sync + 'static {
    /// What it opens.
    type Way: Datagrams;
    /// To where the connection's program wants to go.
    fn open(&self, connection: Tunnelled) -> impl Future<Output = Result<Self::Way, Refused>> + Send;
}

/// How long the kernel remembers a flow after its last datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Of one that is new, or goes one way.
    pub one_way: Duration,
    /// Of a stream.
    pub both_ways: Duration,
}

impl Times {
    /// The kernel's own (`nf_conntrack_udp_timeout`, `…_stream`; documentation: networking/nf_conntrack-sysctl), a second less;
    /// its defaults where they cannot be read.
    pub fn of_kernel() -> Self {
        let seconds = |name: &str, default| {
            let text =
                std::fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_udp_timeout{name}"));
            let seconds = text
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .unwrap_or(default);
            Duration::from_secs(seconds.saturating_sub(1).max(1))
        };
        Self {
            one_way: seconds("", 30),
            both_ways: seconds("_stream", 120),
        }
    }
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Octets.
    pub carried: Carried,
    /// Datagrams that nobody announced, or nobody may send.
    pub strangers: Counter,
    /// Datagrams that found no place.
    pub crowded: Counter,
    /// Sessions at present.
    pub now: Now,
}

/// One socket's sessions.
#[derive(Debug)]
pub struct Relay<O> {
    socket: UdpSocket,
    own: SocketAddr,
    opener: O,
    link: Link,
    times: Times,
    counters: Counters,
    sessions: Mutex<HashMap<SocketAddr, mpsc::Sender<Bytes>>>,
}

impl<O: Opener> Relay<O> {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// As the kernel has it.
    pub fn new(
        socket: UdpSocket,
        opener: O,
        link: Link,
        times: Times,
        counters: Counters,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            own: plain(socket.local_addr()?),
            socket,
            opener,
            link,
            times,
            counters,
            sessions: Mutex::default(),
        }))
    }

    /// Until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut buffer = vec![0; LONGEST];
        loop {
            tokio::select! {
                // an error is that of an earlier answer (ICMP): nobody waits for it
                _ready = self.socket.readable() => {}
                () = shutdown.cancelled() => return,
            }
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, client)) => {
                        self.came(plain(client), buffer.get(..length).unwrap_or_default());
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn came(self: &Arc<Self>, client: SocketAddr, datagram: &[u8]) {
        let datagram = Bytes::copy_from_slice(datagram);
        let mut sessions = self.lock();
        if let Some(session) = sessions.get(&client) {
            if session.try_send(datagram).is_err() {
                self.counters.crowded.add(1);
            }
            return;
        }
        if sessions.len() >= MOST {
            return self.counters.crowded.add(1);
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        // the channel is empty
        let _ = sender.try_send(datagram);
        sessions.insert(client, sender);
        drop(sessions);
        let (relay, counted) = (Arc::clone(self), self.counters.now.one_more());
        tokio::spawn(async move {
            relay.session(client, receiver).await;
            relay.lock().remove(&client);
            drop(counted);
        });
    }

    async fn session(&self, client: SocketAddr, mut datagrams: mpsc::Receiver<Bytes>) {
        let begun = Instant::now();
        let Some(connection) = self.link.whose(Protocol::UDP, client, self.own).await else {
            self.counters.strangers.add(1);
            return tokio::time::sleep(REST).await;
        };
        let flow = connection.flow.clone();
        let way = tokio::select! {
            way = self.opener.open(connection) => way,
            () = tokio::time::sleep(self.times.one_way) => return,
        };
        let Ok(mut way) = way else {
            // the program is told nothing, as by a network that loses datagrams; its own time runs out
            return tokio::time::sleep(REST).await;
        };
        let (hops, circuit) = way.hops();
        self.link.carried(flow, hops, circuit);
        let (mut idle, mut answered) = (self.times.one_way, false);
        let mut ends = Instant::now() + idle;
        loop {
            tokio::select! {
                Some(datagram) = datagrams.recv() => {
                    self.counters.carried.sent.add(octets(&datagram));
                    way.send(datagram);
                }
                datagram = way.receive() => {
                    let Some(datagram) = datagram else { return };
                    if self.socket.send_to(&datagram, client).await.is_ok() {
                        self.counters.carried.received.add(octets(&datagram));
                    }
                    answered = true;
                }
                () = sleep_until(ends) => return,
            }
            if answered && begun.elapsed() > STREAM {
                idle = self.times.both_ways;
            }
            ends = Instant::now() + idle;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, mpsc::Sender<Bytes>>> {
        // nothing in here is left half done by a panic
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn octets(datagram: &Bytes) -> u64 {
    datagram.len().try_into().unwrap_or(u64::MAX)
}
