//! The connection to one server: made when it is needed, shared by all queries, made anew when it broke, closed when idle.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, future::Shared, stream::FuturesUnordered};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::TlsConnector;

use super::{
    carried::Carried,
    clock,
    definition::{Definition, Transport},
    stream::StreamConnection,
    trouble::Trouble,
};

/// A server's next address is tried beside the first after this (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// A connection on which nothing was asked for so long is closed. In the clear it costs one round trip to open it again.
const IDLE_CLEAR: Duration = Duration::from_secs(10);
/// Behind a handshake it is worth more.
const IDLE_ENCRYPTED: Duration = Duration::from_secs(30);
/// Nobody waits longer for a connection, however many addresses a server has.
const DIAL_LIMIT: Duration = Duration::from_secs(10);

type Dialling = Shared<Pin<Box<dyn Future<Output = Result<Arc<Live>, Trouble>> + Send>>>;

/// See the module.
pub(crate) struct Link {
    server: Arc<Definition>,
    transport: Transport,
    tls: Option<Arc<ClientConfig>>,
    state: Mutex<State>,
    dialled: AtomicU64,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Live>>,
    dialling: Option<Dialling>,
}

struct Live {
    connection: Connection,
    last_asked: AtomicU64,
    last_answered: AtomicU64,
}

enum Connection {
    Stream(StreamConnection),
    Carried(Carried),
}

impl Live {
    fn is_closed(&self) -> bool {
        matches!(&self.connection, Connection::Stream(stream) if stream.is_closed())
    }

    async fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.last_asked.store(millis(), Ordering::Relaxed);
        let answer = match &self.connection {
            Connection::Stream(stream) => stream.exchange(query).await,
            Connection::Carried(carried) => carried.exchange(query).await,
        };
        if answer.is_ok() {
            self.last_answered.store(millis(), Ordering::Relaxed);
        }
        answer
    }
}

fn millis() -> u64 {
    u64::try_from(clock::now().as_millis()).unwrap_or(u64::MAX)
}

/// Drops the connection if a query on it was given up and nothing at all came back since: it is dead, and nobody was told.
struct Watch<'a> {
    link: &'a Link,
    live: &'a Arc<Live>,
    began: u64,
    ended: bool,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.ended && self.live.last_answered.load(Ordering::Relaxed) <= self.began {
            self.link.forget(self.live);
        }
    }
}

impl Link {
    /// `transport` is the server's own, or TCP beside a server's UDP.
    pub(crate) fn new(server: Arc<Definition>, transport: Transport, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            server,
            transport,
            tls,
            state: Mutex::default(),
            dialled: AtomicU64::new(0),
        }
    }

    /// Sends a query over the connection that there is, or over a new one. Where the old one turns out to be closed, once
    /// more over a new one: the other side may close an idle connection at any moment.
    pub(crate) async fn exchange(&self, addresses: &[SocketAddr], query: &[u8]) -> Result<Vec<u8>, Trouble> {
        if let Some(live) = self.current() {
            match self.ask(&live, query).await {
                Err(Trouble::Io(_)) => self.forget(&live),
                other => return other,
            }
        }
        let live = self.dial(addresses).await?;
        let answer = self.ask(&live, query).await;
        if let Err(Trouble::Io(_)) = &answer {
            self.forget(&live);
        }
        answer
    }

    async fn ask(&self, live: &Arc<Live>, query: &[u8]) -> Result<Vec<u8>, Trouble> {
        let mut watch = Watch {
            link: self,
            live,
            began: millis(),
            ended: false,
        };
        let answer = live.exchange(query).await;
        watch.ended = true;
        answer
    }

    /// How many connections were made.
    pub(crate) fn dialled(&self) -> u64 {
        self.dialled.load(Ordering::Relaxed)
    }

    /// Closes the connection if nothing was asked on it for a while.
    pub(crate) fn close_idle(&self) {
        let limit = u64::try_from(self.idle().as_millis()).unwrap_or(u64::MAX);
        let mut state = self.state();
        let idle =
            |live: &Arc<Live>| millis().saturating_sub(live.last_asked.load(Ordering::Relaxed)) > limit;
        if state.current.as_ref().is_some_and(idle) {
            state.current = None;
        }
    }

    /// The network is another one: what was connected through the old one is left.
    pub(crate) fn reset(&self) {
        *self.state() = State::default();
    }

    fn idle(&self) -> Duration {
        if self.transport.is_encrypted() {
            IDLE_ENCRYPTED
        } else {
            IDLE_CLEAR
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<Live>> {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|live| live.is_closed()) {
            state.current = None;
        }
        state.current.clone()
    }

    fn forget(&self, live: &Arc<Live>) {
        let mut state = self.state();
        if state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, live))
        {
            state.current = None;
        }
    }

    /// Waits for the connection that is being made, by whomever; it goes on being made when a waiter leaves.
    async fn dial(&self, addresses: &[SocketAddr]) -> Result<Arc<Live>, Trouble> {
        let dialling = {
            let mut state = self.state();
            if let Some(live) = state.current.as_ref().filter(|live| !live.is_closed()) {
                return Ok(Arc::clone(live));
            }
            state
                .dialling
                .get_or_insert_with(|| self.start(addresses.to_vec()))
                .clone()
        };
        let made = dialling.clone().await;
        let mut state = self.state();
        if state
            .dialling
            .as_ref()
            .is_some_and(|current| current.ptr_eq(&dialling))
        {
            state.dialling = None;
            state.current = made.as_ref().ok().cloned();
        }
        made
    }

    fn start(&self, addresses: Vec<SocketAddr>) -> Dialling {
        self.dialled.fetch_add(1, Ordering::Relaxed);
        let (server, transport, tls) = (Arc::clone(&self.server), self.transport, self.tls.clone());
        let idle = self.idle();
        let task = tokio::spawn(async move {
            let dialled = dial_any(&server, transport, &addresses, tls, idle);
            let made = tokio::time::timeout(DIAL_LIMIT, dialled).await;
            made.unwrap_or(Err(Trouble::Timeout)).map(|connection| {
                Arc::new(Live {
                    connection,
                    last_asked: millis().into(),
                    last_answered: millis().into(),
                })
            })
        });
        let made = async move { task.await.unwrap_or_else(|error| Err(Trouble::io(error))) };
        FutureExt::shared(Box::pin(made))
    }
}

/// Dials the addresses one after the other, the next when one failed or took long; the first connection counts.
async fn dial_any(
    server: &Definition,
    transport: Transport,
    addresses: &[SocketAddr],
    tls: Option<Arc<ClientConfig>>,
    idle: Duration,
) -> Result<Connection, Trouble> {
    let mut rest = addresses.iter();
    let mut under_way = FuturesUnordered::new();
    let mut trouble = Trouble::io("it has no address");
    loop {
        let more = rest
            .next()
            .map(|address| under_way.push(dial(server, transport, *address, tls.clone(), idle)));
        tokio::select! {
            biased;
            ended = under_way.next() => match ended {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(problem)) => trouble = problem,
                None => return Err(trouble),
            },
            () = sleep(STAGGER), if more.is_some() && rest.len() > 0 => {}
        }
    }
}

async fn dial(
    server: &Definition,
    transport: Transport,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    idle: Duration,
) -> Result<Connection, Trouble> {
    let connection = match (transport, tls) {
        (Transport::Udp | Transport::Tcp, _) => {
            let stream = tcp(address).await?;
            Connection::Stream(StreamConnection::start(stream, idle))
        }
        (Transport::Tls, Some(tls)) => {
            let name = ServerName::try_from(server.name.to_string()).map_err(Trouble::io)?;
            let stream = TlsConnector::from(tls).connect(name, tcp(address).await?).await?;
            Connection::Stream(StreamConnection::start(stream, idle))
        }
        (_, Some(tls)) => Connection::Carried(Box::pin(Carried::dial(server, address, tls)).await?),
        // Never in the clear instead: without TLS settings there is no connection.
        (_, None) => return Err(Trouble::Tls("there are no TLS settings for it".into())),
    };
    Ok(connection)
}

async fn tcp(address: SocketAddr) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
