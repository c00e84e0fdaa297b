//! The server's front: datagrams and streams in, answers out, for programs of this host only.
//!
//! Invariants: nothing here binds but [`bind`], which is called at the edge. A datagram that its handler answers at once is
//! received, answered and sent without an allocation, many in one system call. What has to wait is bounded, in total and
//! for each account, so that one program that asks for everything leaves the others served.

mod bind;
mod clock;
mod connections;
mod counters;
mod datagram;
mod flights;
mod handler;
mod holder;
mod local;
mod outstanding;
mod probe;
mod taken;
mod tcp;
mod udp;

use std::{
    io,
    net::{TcpListener, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use dns_core::wire::CookieSecret;
use futures_util::future::join_all;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use bind::{BindError, Bound, Transport as BindTransport, bind};
pub use clock::{now, wall};
pub use counters::Counters;
pub use flights::Flights;
pub use handler::{Account, Client, Handler, Quick, Transport};
pub use holder::Holder;
pub use local::OwnAddresses;
pub use outstanding::{Outstanding, Place};

/// At the end, for queries that were taken up. Others wait in the sockets meanwhile, for the next process.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// Between two looks whether all are answered.
const LOOK: Duration = Duration::from_millis(2);

/// The sockets to serve.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For each worker thread the sockets that it reads: with SO_REUSEPORT its own for each address, or such as it shares.
    pub udp: Vec<Vec<UdpSocket>>,
    /// Listening.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Sockets that came one for each address, as from systemd: `threads` workers share them.
    ///
    /// # Errors
    /// Where a descriptor cannot be duplicated.
    pub fn shared(udp: &[UdpSocket], tcp: Vec<TcpListener>, threads: usize) -> io::Result<Self> {
        let one = || udp.iter().map(UdpSocket::try_clone).collect();
        Ok(Self {
            udp: (0..threads.max(1)).map(|_| one()).collect::<io::Result<_>>()?,
            tcp,
        })
    }
}

/// How much is served at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest answer over UDP, in bytes.
    pub datagram: u16,
    /// Queries that wait for an upstream.
    pub outstanding: usize,
    /// Of one user.
    pub outstanding_per_user: usize,
    /// Of one group of a user's programs.
    pub outstanding_per_group: usize,
    /// TCP connections.
    pub connections: usize,
    /// Of one account.
    pub connections_per_account: usize,
    /// Queries of one TCP connection that are not answered yet; then its next ones are not read.
    pub pipelined: usize,
    /// How long a client may take from the connection to its first whole query, and for each other one once it began.
    pub whole_query: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// How long an answer may take to be read.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            datagram: dns_core::wire::UDP_SIZE,
            outstanding: 4096,
            outstanding_per_user: 2048,
            outstanding_per_group: 1024,
            connections: 512,
            connections_per_account: 64,
            pipelined: 64,
            whole_query: Duration::from_secs(3),
            idle: Duration::from_secs(10),
            write: Duration::from_secs(5),
        }
    }
}

/// What all parts of the front share.
#[derive(Debug)]
struct Front<H> {
    handler: H,
    limits: Limits,
    cookies: CookieSecret,
    counters: counters::Shared,
    outstanding: Arc<Outstanding>,
    groups: Arc<Outstanding>,
    connections: Arc<connections::Connections>,
    addresses: OwnAddresses,
    /// Nothing new is taken up any more.
    ending: CancellationToken,
}

/// A running server.
#[derive(Debug)]
pub struct Server<H> {
    front: Arc<Front<H>>,
    workers: Vec<thread::JoinHandle<()>>,
    probes: Vec<probe::Probe>,
    listeners: JoinSet<()>,
}

impl<H: Handler> Server<H> {
    /// Serves until `ending`. Must be called within a tokio runtime: TCP runs there; datagrams, and what waits for their answers,
    /// have threads and runtimes of their own. `cookie_secret`: sixteen random bytes; kept across restarts, so are cookies.
    ///
    /// # Errors
    /// Where a socket cannot be set up, or a thread cannot be started.
    pub fn start(
        sockets: Sockets,
        handler: H,
        limits: Limits,
        cookie_secret: [u8; 16],
        ending: CancellationToken,
    ) -> io::Result<Self> {
        let front = Arc::new(Front {
            handler,
            limits,
            cookies: CookieSecret::new(cookie_secret),
            counters: counters::Shared::default(),
            outstanding: Outstanding::new(limits.outstanding, limits.outstanding_per_user),
            groups: Outstanding::new(limits.outstanding, limits.outstanding_per_group),
            connections: connections::Connections::new(
                limits.connections,
                limits.connections_per_account,
                limits.pipelined,
            ),
            addresses: OwnAddresses::new(),
            ending,
        });
        let (mut workers, mut probes) = (Vec::new(), Vec::new());
        for (number, own) in sockets.udp.into_iter().enumerate() {
            let (probe, probed) = probe::pair()?;
            probes.push(probe);
            let front = Arc::clone(&front);
            workers.push(udp::start(number, own, probed, front)?);
        }
        let mut listeners = JoinSet::new();
        for listener in sockets.tcp {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            listeners.spawn(tcp::serve(listener, Arc::clone(&front)));
        }
        Ok(Self {
            front,
            workers,
            probes,
            listeners,
        })
    }

    /// What was served so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.front.counters.snapshot();
        counters.outstanding = self.front.outstanding.now() as u64;
        counters.tcp_open = self.front.connections.now() as u64;
        counters
    }

    /// Asks each thread that answers datagrams a question of our own, through a socket, and waits for its answer. False
    /// where one of them hangs.
    pub async fn is_well(&self) -> bool {
        let answered = join_all(self.probes.iter().map(probe::Probe::is_answered)).await;
        answered.into_iter().all(|answered| answered)
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        &self.front.handler
    }

    /// Waits until nothing new is taken up and everybody who was has his answer, but no longer than `LAST_ANSWERS` after the
    /// end was wanted: what an upstream does not answer by then, it may not answer at all. Until then whatever queries need
    /// must be there.
    pub async fn drained(&self) {
        self.front.ending.cancelled().await;
        let drained = async {
            while self.front.connections.now() > 0 || self.workers.iter().any(|worker| !worker.is_finished())
            {
                sleep(LOOK).await;
            }
        };
        let _in_time = timeout(LAST_ANSWERS + LOOK, drained).await;
    }

    /// Waits for the end, after `ending`. What is not answered by then never is.
    pub async fn stopped(mut self) {
        self.front.ending.cancelled().await;
        self.listeners.abort_all();
        while self.listeners.join_next().await.is_some() {}
        let workers = self.workers;
        let join = move || workers.into_iter().for_each(|worker| drop(worker.join()));
        // a worker that panicked has said so itself
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

impl<H> Front<H> {
    /// Waits until nobody waits any more, after the end.
    async fn last_answers(&self) {
        let answered = async {
            while self.outstanding.now() > 0 {
                sleep(LOOK).await;
            }
        };
        if timeout(LAST_ANSWERS, answered).await.is_err() {
            tracing::warn!(
                left = self.outstanding.now(),
                "ended before every query was answered"
            );
        }
    }
}

#[cfg(test)]
mod tests;
