//! Queries over connections (RFC 7766): many on one, answered as their answers come.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use dns_core::wire::{Query, Reply};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{trace, warn};

use super::{
    Client, Counters, Front, Handler, Quick, Transport, clock, connections, outstanding::Place, taken,
};

/// No query is larger.
const LARGEST: u16 = 4096;
/// At the end, for a query that is on its way: whoever connected has been told that somebody listens.
const LAST_WORD: Duration = Duration::from_millis(200);
/// After a failed accept (no descriptors left): the listener stays readable.
const BREATH: Duration = Duration::from_millis(100);

/// Why a connection ended.
enum End {
    /// The client closed it.
    Closed,
    /// The client did not send, or did not read, in time.
    TimedOut,
    /// It sent what is no message.
    Garbage,
}

/// What the tasks of one connection share.
struct Connection<H> {
    front: Arc<Front<H>>,
    peer: SocketAddr,
    local: SocketAddr,
    activity: Arc<connections::Activity>,
    answers: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
}

/// Accepts until the end, and lets those that were accepted have their answers.
pub(super) async fn serve<H: Handler>(listener: TcpListener, front: Arc<Front<H>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = front.ending.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = admit(&stream, peer, &front) {
                        connections.spawn(serve_one(stream, peer, Arc::clone(&front), place));
                    }
                }
                Err(error) => {
                    warn!(%error, "accept on the DNS listener");
                    sleep(BREATH).await;
                }
            },
        }
    }
    while connections.join_next().await.is_some() {}
}

/// A place for a connection of this host, if there is one.
fn admit<H: Handler>(stream: &TcpStream, peer: SocketAddr, front: &Front<H>) -> Option<connections::Place> {
    let mut tally = Counters::default();
    let local = front.addresses.has(peer, clock::now());
    let entered = local
        .then(|| stream.local_addr().ok())
        .flatten()
        .and_then(|local| {
            front
                .connections
                .enter(front.handler.account(peer, local), clock::now())
        });
    tally.foreign += u64::from(!local);
    tally.tcp_accepted += u64::from(entered.is_some());
    tally.tcp_displaced += u64::from(entered.as_ref().is_some_and(|entered| entered.displaced));
    tally.tcp_refused += u64::from(local && entered.is_none());
    front.counters.add(&mut tally);
    entered.map(|entered| entered.place)
}

async fn serve_one<H: Handler>(
    stream: TcpStream,
    peer: SocketAddr,
    front: Arc<Front<H>>,
    place: connections::Place,
) {
    let Ok(local) = stream.local_addr() else { return };
    // each answer is written whole
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (answers, queue) = mpsc::channel(front.limits.pipelined.max(1));
    let activity = Arc::clone(&place.activity);
    let connection = Connection {
        activity: Arc::clone(&activity),
        answers,
        peer,
        local,
        front: Arc::clone(&front),
    };
    let mut writing = std::pin::pin!(write(writer, queue, front.limits.write, &activity));
    let end = tokio::select! {
        () = activity.leave.cancelled() => End::Closed,
        end = connection.read(reader) => {
            // the answers that are still to come are the last to hold the channel
            drop(connection);
            match (end, writing.await) {
                (_, End::TimedOut) => End::TimedOut,
                (end, _) => end,
            }
        }
        end = &mut writing => end,
    };
    let mut tally = Counters::default();
    match end {
        End::Closed => {}
        End::TimedOut => tally.tcp_timed_out += 1,
        End::Garbage => tally.malformed += 1,
    }
    front.counters.add(&mut tally);
    drop(place);
}

/// Writes answers until nobody can send another.
async fn write(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<(Vec<u8>, OwnedSemaphorePermit)>,
    patience: Duration,
    activity: &connections::Activity,
) -> End {
    while let Some((message, permit)) = queue.recv().await {
        match timeout(patience, writer.write_all(&message)).await {
            Ok(Ok(())) => {
                drop(permit);
                activity.moved();
            }
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::TimedOut,
        }
    }
    End::Closed
}

impl<H: Handler> Connection<H> {
    /// Reads queries until the end.
    async fn read(&self, reader: OwnedReadHalf) -> End {
        let mut reader = BufReader::with_capacity(usize::from(LARGEST), reader);
        let (mut patience, mut message, mut met) = (self.front.limits.whole_query, Vec::new(), false);
        loop {
            let Ok(permit) = Arc::clone(&self.activity.pipeline).acquire_owned().await else {
                return End::Closed;
            };
            let length = match self.length(&mut reader, patience).await {
                Ok(length) if (1..=LARGEST).contains(&length) => length,
                Ok(_) => return End::Garbage,
                Err(end) => return end,
            };
            message.resize(usize::from(length), 0);
            match timeout(self.front.limits.whole_query, reader.read_exact(&mut message)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return End::Closed,
                Err(_) => return End::TimedOut,
            }
            self.activity.moved();
            if !met {
                // once, not for each of the many queries that may follow it at once
                self.front.handler.meet(&self.client()).await;
                met = true;
            }
            if !self.query(&message, permit).await {
                return End::Garbage;
            }
            patience = self.front.limits.idle;
        }
    }

    /// The next length. As long as answers are still to come, a client that sends nothing is not idle.
    async fn length(&self, reader: &mut BufReader<OwnedReadHalf>, patience: Duration) -> Result<u16, End> {
        loop {
            if reader.buffer().is_empty() {
                let ending = async {
                    self.front.ending.cancelled().await;
                    sleep(LAST_WORD).await;
                };
                tokio::select! {
                    biased;
                    readable = timeout(patience, reader.get_ref().readable()) => match readable {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Err(End::Closed),
                        Err(_) if self.activity.waits() => continue,
                        Err(_) => return Err(End::TimedOut),
                    },
                    // what it asked so far is still answered
                    () = ending => return Err(End::Closed),
                }
            }
            // from its first byte on the query has its own time
            return match timeout(self.front.limits.whole_query, reader.read_u16()).await {
                Ok(Ok(length)) => Ok(length),
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(End::Closed),
                Ok(Err(_)) => Err(End::Closed),
                Err(_) => Err(End::TimedOut),
            };
        }
    }

    /// Answers one query, or lets it wait. Whether the connection is worth going on with.
    async fn query(&self, message: &[u8], permit: OwnedSemaphorePermit) -> bool {
        let mut tally = Counters {
            tcp_received: 1,
            ..Counters::default()
        };
        let mut out = Vec::with_capacity(512);
        let (query, client) = match self.understand(message) {
            Ok(understood) => understood,
            Err(unfit) => {
                unfit.write(&mut out);
                self.send(out, permit, tally).await;
                return false;
            }
        };
        if !taken::at_once(&query, &client.reply, &mut out) {
            let handler = &self.front.handler;
            let mut turn = H::Turn::default();
            let quick = handler.quick(&query, &client, clock::now(), &mut turn, &mut out);
            handler.sent(&mut turn);
            match quick {
                Quick::Answered => {}
                Quick::Drop => {
                    tally.dropped += 1;
                    out.clear();
                }
                Quick::Later { account, note } => {
                    if let Some(place) = self.front.enter(account) {
                        tally.later += 1;
                        self.front.counters.add(&mut tally);
                        self.later(query, client, note, place, permit);
                        return true;
                    }
                    trace!(?account, "too many queries wait");
                    tally.overflowed += 1;
                    taken::overflow(&query, &client.reply, &mut out);
                }
            }
        }
        self.send(out, permit, tally).await;
        true
    }

    fn understand(&self, message: &[u8]) -> Result<(Query, Client), dns_core::wire::Unfit> {
        let query = Query::parse(message)?;
        let mut client = self.client();
        self.front.cookie(&query, &mut client);
        Ok((query, client))
    }

    fn client(&self) -> Client {
        let tenths = self.front.limits.idle.as_millis() / 100;
        Client {
            peer: self.peer,
            local: self.local,
            transport: Transport::Tcp,
            has_cookie: false,
            reply: Reply {
                keepalive: Some(u16::try_from(tenths).unwrap_or(u16::MAX)),
                ..Reply::stream()
            },
        }
    }

    fn later(
        &self,
        query: Query,
        client: Client,
        note: H::Note,
        place: [Place; 2],
        permit: OwnedSemaphorePermit,
    ) {
        let (front, answers) = (Arc::clone(&self.front), self.answers.clone());
        tokio::spawn(async move {
            // whoever closes the connection does not wait for the answer, nor do we
            let message = tokio::select! {
                message = front.handler.slow(query, client, note) => message,
                () = answers.closed() => return,
            };
            drop(place);
            deliver(&front, &answers, message, permit, Counters::default()).await;
        });
    }

    async fn send(&self, message: Vec<u8>, permit: OwnedSemaphorePermit, tally: Counters) {
        deliver(&self.front, &self.answers, message, permit, tally).await;
    }
}

/// Hands an answer to the writer, with its length before it.
async fn deliver<H>(
    front: &Front<H>,
    answers: &mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    mut message: Vec<u8>,
    permit: OwnedSemaphorePermit,
    mut tally: Counters,
) {
    if let (Ok(length), false) = (u16::try_from(message.len()), message.is_empty()) {
        tally.answered(&message);
        message.splice(..0, length.to_be_bytes());
        tally.unsent += u64::from(answers.send((message, permit)).await.is_err());
    }
    front.counters.add(&mut tally);
}
