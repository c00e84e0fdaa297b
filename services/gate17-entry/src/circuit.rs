//! A way through nodes: TLS inside TLS. Each hop's CONNECT is followed at once by the next hop's hello, so that a circuit of
//! `n` hops is there after about `n` round trips of its path.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use gate17_proto::{
    exit::{ExitPolicy, Transport},
    map::{Carrier, Node, NodeAddress, NodeId},
    target::Target,
};
use h2::{
    RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::PROXY_AUTHORIZATION};
use proto::gate17::v1::Cause;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::{pinned, refusal::Refusal, tunnel::Tunnel};

/// For one hop to be there.
const HOP: Duration = Duration::from_secs(10);
/// For a destination to answer; nodes give up before.
const OPEN: Duration = Duration::from_secs(20);
/// Between two looks whether a circuit lives.
const ALIVE: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
const FRAME: u32 = 256 << 10;
/// Octets of an answer to an upgrade.
const HEAD: usize = 4096;

trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// Why a circuit could not be built, and by whose fault.
#[derive(Debug, thiserror::Error)]
#[error("node {}: {text}", node.0)]
pub struct BuildError {
    /// Its id.
    pub node: NodeId,
    /// What it did.
    pub text: String,
}

/// A circuit that was built.
#[derive(Debug)]
pub struct Circuit {
    /// Unique while the service runs.
    pub id: u64,
    /// First to last.
    pub hops: Vec<NodeId>,
    /// The last node.
    pub exit: Node,
    /// Its rules, read once: each new stream asks them.
    rules: ExitPolicy,
    /// When.
    pub built: SystemTime,
    /// The same, for its age.
    pub since: Instant,
    /// How long building took.
    pub building: Duration,
    /// Streams and octets.
    pub carried: Carried,
    send: SendRequest<Bytes>,
    authorization: Option<HeaderValue>,
    round_trip: Arc<AtomicU64>,
    draining: AtomicBool,
    closed: CancellationToken,
}

/// What went through a circuit.
#[derive(Debug, Default)]
pub struct Carried {
    /// Open streams.
    pub now: AtomicU64,
    /// All streams.
    pub streams: AtomicU64,
    /// Octets from programs.
    pub sent: AtomicU64,
    /// Octets to programs.
    pub received: AtomicU64,
}

/// A stream's: its circuit lives as long.
#[derive(Debug)]
pub struct Place(Arc<Circuit>);

impl Place {
    /// Whose it is.
    pub fn circuit(&self) -> &Circuit {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.carried.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is the same for all circuits.
#[derive(Clone, Debug)]
pub struct Means {
    /// Shown to every node.
    pub authorization: Option<HeaderValue>,
}

/// Builds a circuit through `nodes`, first to last.
///
/// # Errors
/// [`BuildError`], which names the node.
pub async fn build(id: u64, nodes: &[Node], means: &Means) -> Result<Circuit, BuildError> {
    let began = Instant::now();
    let closed = CancellationToken::new();
    // what was begun ends with a failure
    let guard = closed.clone().drop_guard();
    let mut through: Option<(SendRequest<Bytes>, NodeId)> = None;
    let mut round_trip = None;
    for (place, node) in nodes.iter().enumerate() {
        let failed = |text: String| BuildError {
            node: node.id.clone(),
            text,
        };
        let is_last = place + 1 == nodes.len();
        let hop = async {
            let address = address_of(node).ok_or_else(|| failed("no address".to_owned()))?;
            let stream: Box<dyn Octets> = match &through {
                None => Box::new(dial(address).await.map_err(|error| failed(error.to_string()))?),
                Some((send, before)) => {
                    let before_failed = |text: String| BuildError {
                        node: before.clone(),
                        text,
                    };
                    let to = (address.address, address.port).into();
                    Box::new(extend(send, to, &before.0, means).await.map_err(before_failed)?)
                }
            };
            let stream = carrier(stream, address.carrier)
                .await
                .map_err(|error| failed(error.to_string()))?;
            handshake(stream, node).await.map_err(failed)
        };
        let (send, mut connection) = match timeout(HOP, hop).await {
            Ok(hop) => hop?,
            Err(_) => return Err(failed(format!("not there within {} s", HOP.as_secs()))),
        };
        if is_last {
            round_trip = connection.ping_pong();
        }
        let end = closed.clone();
        tokio::spawn(async move {
            tokio::select! {
                // an end is an end, however it came
                _ended = connection => {}
                () = end.cancelled() => {}
            }
            end.cancel();
        });
        through = Some((send, node.id.clone()));
    }
    let (Some((send, _)), Some(exit)) = (through, nodes.last()) else {
        return Err(BuildError {
            node: NodeId(String::new()),
            text: "no nodes".to_owned(),
        });
    };
    let measured = Arc::new(AtomicU64::new(0));
    let circuit = Circuit {
        id,
        hops: nodes.iter().map(|node| node.id.clone()).collect(),
        exit: exit.clone(),
        // rules that cannot be read carry nowhere; no map has such
        rules: ExitPolicy::of(exit).unwrap_or_default(),
        built: SystemTime::now(),
        since: began,
        building: began.elapsed(),
        carried: Carried::default(),
        draining: AtomicBool::new(false),
        send,
        authorization: means.authorization.clone(),
        round_trip: Arc::clone(&measured),
        closed: guard.disarm(),
    };
    if let Some(ping) = round_trip {
        tokio::spawn(keep_alive(ping, measured, circuit.closed.clone()));
    }
    Ok(circuit)
}

async fn keep_alive(mut ping: h2::PingPong, measured: Arc<AtomicU64>, closed: CancellationToken) {
    let turns = async {
        loop {
            let began = Instant::now();
            match timeout(HOP, ping.ping(h2::Ping::opaque())).await {
                Ok(Ok(_)) => {}
                _ => return,
            }
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            measured.store(took.max(1), Ordering::Relaxed);
            tokio::time::sleep(ALIVE).await;
        }
    };
    tokio::select! {
        () = turns => closed.cancel(),
        () = closed.cancelled() => {}
    }
}

/// What a circuit of one node would go to first.
fn address_of(node: &Node) -> Option<&NodeAddress> {
    let tls = node
        .addresses
        .iter()
        .find(|address| address.carrier == Carrier::Tls);
    tls.or_else(|| node.addresses.first())
}

async fn dial(address: &NodeAddress) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address.address, address.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for TLS on a connection in the clear, where the node wants that (RFC 2817).
async fn carrier(mut stream: Box<dyn Octets>, carrier: Carrier) -> io::Result<Box<dyn Octets>> {
    if carrier == Carrier::Tls {
        return Ok(stream);
    }
    stream
        .write_all(
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUpgrade: TLS/1.3\r\nConnection: Upgrade\r\n\r\n",
        )
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(io::Error::other(
                "it does not change to TLS: its answer has no end",
            ));
        }
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other("it does not change to TLS"));
    }
    Ok(stream)
}

/// A stream to the next node, used before its 200 came.
async fn extend(
    send: &SendRequest<Bytes>,
    to: SocketAddr,
    node: &str,
    means: &Means,
) -> Result<Tunnel, String> {
    let mut send = send.clone().ready().await.map_err(|error| error.to_string())?;
    let request =
        connect(&to.to_string(), means.authorization.as_ref()).map_err(|error| error.to_string())?;
    let (answer, to) = send
        .send_request(request, false)
        .map_err(|error| error.to_string())?;
    Ok(Tunnel::early(node, answer, to))
}

async fn handshake(
    stream: Box<dyn Octets>,
    node: &Node,
) -> Result<
    (
        SendRequest<Bytes>,
        h2::client::Connection<tokio_rustls::client::TlsStream<Box<dyn Octets>>, Bytes>,
    ),
    String,
> {
    let named = (!node.name.is_empty()).then(|| ServerName::try_from(node.name.clone()));
    let name = match named {
        Some(name) => name.map_err(|error| format!("its name in the map: {error}"))?,
        None => ServerName::try_from("localhost").map_err(|error| error.to_string())?,
    };
    let config =
        pinned::config(node.keys.clone(), !node.name.is_empty()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| explained(&error))?;
    Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(16 << 10)
        .enable_push(false)
        .max_send_buffer_size(1 << 20)
        .handshake(stream)
        .await
        .map_err(|error| error.to_string())
}

fn explained(error: &io::Error) -> String {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "its key is none that the map says: somebody else is there".to_owned()
        }
        _ => error.to_string(),
    }
}

fn connect(authority: &str, authorization: Option<&HeaderValue>) -> http::Result<Request<()>> {
    let mut request = Request::builder().method(Method::CONNECT).uri(authority);
    if let Some(value) = authorization {
        request = request.header(PROXY_AUTHORIZATION, value);
    }
    request.body(())
}

impl Circuit {
    /// Whether its exit carries there.
    pub fn carries(&self, (address, port, transport): (IpAddr, u16, Transport)) -> bool {
        self.rules.check(address, port, transport).is_ok()
    }

    /// The nodes' ids, first to last.
    pub fn hop_ids(&self) -> Vec<String> {
        self.hops.iter().map(|hop| hop.0.clone()).collect()
    }

    /// Takes new streams.
    pub fn is_open(&self) -> bool {
        self.lives() && !self.draining.load(Ordering::Relaxed)
    }

    /// Its streams go on.
    pub fn lives(&self) -> bool {
        !self.closed.is_cancelled()
    }

    /// Takes no new streams from now on; those that are there end by themselves.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Of the whole path, where it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        let measured = self.round_trip.load(Ordering::Relaxed);
        (measured > 0).then(|| Duration::from_micros(measured))
    }

    /// Ends it, and its streams.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// A TCP connection from the exit.
    ///
    /// # Errors
    /// What the exit or the destination said; `Cause::Node` where the circuit is broken.
    pub async fn open_tcp(self: &Arc<Self>, target: &Target) -> Result<Tunnel, Refusal> {
        let request = connect(&target.to_string(), self.authorization.as_ref())
            .map_err(|error| Refusal::new(Cause::Policy, error.to_string()))?;
        let place = self.place();
        let (from, to) = self.ask(request).await?;
        Ok(Tunnel::open(&self.exit.id.0, from, to, place))
    }

    /// Datagrams from the exit (RFC 9298): capsules on the streams.
    ///
    /// # Errors
    /// As [`Self::open_tcp`].
    pub async fn open_udp(
        self: &Arc<Self>,
        target: &Target,
    ) -> Result<(RecvStream, SendStream<Bytes>, Place), Refusal> {
        let malformed = |error: http::Error| Refusal::new(Cause::Policy, error.to_string());
        let uri = Uri::builder()
            .scheme("https")
            .authority("localhost")
            .path_and_query(target.udp_path())
            .build()
            .map_err(malformed)?;
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(uri)
            .header("capsule-protocol", "?1")
            .extension(h2::ext::Protocol::from_static("connect-udp"));
        if let Some(value) = &self.authorization {
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let place = self.place();
        let (from, to) = self.ask(request.body(()).map_err(malformed)?).await?;
        Ok((from, to, place))
    }

    /// A DNS query, answered by the exit's resolver (RFC 8484).
    ///
    /// # Errors
    /// As [`Self::open_tcp`].
    pub async fn resolve(self: &Arc<Self>, query: Bytes) -> Result<Vec<u8>, Refusal> {
        const LONGEST: usize = 65_535;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri("https://localhost/dns-query")
            .header("content-type", "application/dns-message")
            .header("accept", "application/dns-message");
        if let Some(value) = &self.authorization {
            request = request.header(http::header::AUTHORIZATION, value);
        }
        let request = request
            .body(())
            .map_err(|error| Refusal::new(Cause::Policy, error.to_string()))?;
        let place = self.place();
        let (answer, mut to) = self.send(request).await?;
        to.send_data(query, true).map_err(|error| self.broken(&error))?;
        let mut from = self.answered(answer).await?;
        let mut octets = Vec::new();
        while let Some(data) = timeout(OPEN, from.data()).await.map_err(|_| self.silent())? {
            let data = data.map_err(|error| self.broken(&error))?;
            from.flow_control()
                .release_capacity(data.len())
                .map_err(|error| self.broken(&error))?;
            octets.extend_from_slice(&data);
            if octets.len() > LONGEST {
                return Err(Refusal::new(
                    Cause::Node,
                    format!("node {}: an endless answer", self.exit.id.0),
                ));
            }
        }
        drop(place);
        Ok(octets)
    }

    async fn ask(&self, request: Request<()>) -> Result<(RecvStream, SendStream<Bytes>), Refusal> {
        let (answer, to) = self.send(request).await?;
        Ok((self.answered(answer).await?, to))
    }

    async fn send(
        &self,
        request: Request<()>,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Refusal> {
        let ready = timeout(HOP, self.send.clone().ready());
        let mut send = ready
            .await
            .map_err(|_| self.silent())?
            .map_err(|error| self.broken(&error))?;
        send.send_request(request, false)
            .map_err(|error| self.broken(&error))
    }

    async fn answered(&self, answer: h2::client::ResponseFuture) -> Result<RecvStream, Refusal> {
        let answer: Response<RecvStream> = timeout(OPEN, answer)
            .await
            // a node that is well gives up on a destination before
            .map_err(|_| Refusal::new(Cause::Node, format!("node {} does not answer", self.exit.id.0)))?
            .map_err(|error| self.broken(&error))?;
        if answer.status() == StatusCode::OK {
            return Ok(answer.into_body());
        }
        Err(Refusal::of_answer(
            &self.exit.id.0,
            answer.status(),
            answer.headers(),
        ))
    }

    fn place(self: &Arc<Self>) -> Place {
        self.carried.now.fetch_add(1, Ordering::Relaxed);
        self.carried.streams.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }

    fn silent(&self) -> Refusal {
        self.close();
        Refusal::new(Cause::Node, format!("node {} does not answer", self.exit.id.0))
    }

    /// A stream that breaks before it began says that the circuit is no more, or takes nothing new.
    fn broken(&self, error: &h2::Error) -> Refusal {
        if error.is_io() {
            self.close();
        } else if error.is_go_away() || !self.lives() {
            self.drain();
        }
        Refusal::new(Cause::Node, format!("node {}: {error}", self.exit.id.0))
    }
}

impl Drop for Circuit {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}
