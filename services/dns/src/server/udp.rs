//! A thread that answers datagrams.
//!
//! It has a runtime of its own: what has to wait for an upstream is driven by the thread that received it, so that an answer costs
//! no hand-over between threads.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use dns_core::wire::{Query, Reply, Unfit, code, minimal_any, refuse};
use futures_util::future::join_all;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
};
use tracing::{error, trace};

use super::{
    Account, Client, Counters, Front, Handler, Place, Quick, Transport, clock,
    datagram::{self, BATCH, Batch, Outgoing, Way},
};

/// Extended DNS Error "Other" (RFC 8914 §4.1).
const OTHER: u16 = 0;
/// So many batches of one socket before the others, and what waits, get their turn.
const ROUNDS: usize = 8;
/// So many steps of queries that wait before it is looked for what came.
const STEPS: u32 = 16;
/// Nearer than any timer of a query that waits for an upstream.
const LINGERS: Duration = Duration::from_millis(50);

pub(super) struct Worker<H> {
    sockets: Vec<Socket>,
    front: Arc<Front<H>>,
    /// Queries that had to wait lately; 0: nobody looks any more.
    waited: Arc<AtomicU64>,
}

/// A socket and its own address; where that is a wildcard, each datagram says which it came to.
struct Socket {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    /// Only our own [`super::probe::Probe`] can send here.
    is_probed: bool,
}

/// What is received into and answered from.
struct Room<H: Handler> {
    batch: Batch,
    answers: Vec<Vec<u8>>,
    turn: Turn<H>,
}

/// What is counted, and what the handler knows, of the datagrams that came at once.
struct Turn<H: Handler> {
    handlers: H::Turn,
    tally: Counters,
}

impl<H: Handler> Default for Room<H> {
    fn default() -> Self {
        Self {
            batch: Batch::new(),
            answers: (0..BATCH).map(|_| Vec::with_capacity(4096)).collect(),
            turn: Turn {
                handlers: H::Turn::default(),
                tally: Counters::default(),
            },
        }
    }
}

/// What becomes of one datagram.
enum Fate<N> {
    Answer,
    Nothing,
    Later {
        query: Box<Query>,
        client: Client,
        note: N,
        account: Account,
    },
}

/// Starts thread `number`, which answers on `sockets` and to the probe until the end, and then those whom it still owes an answer.
///
/// # Errors
/// Where a socket cannot be set up, or the thread not be started.
pub(super) fn start<H: Handler>(
    number: usize,
    sockets: Vec<UdpSocket>,
    probed: UdpSocket,
    front: Arc<Front<H>>,
) -> io::Result<thread::JoinHandle<()>> {
    for socket in &sockets {
        datagram::prepare(socket)?;
    }
    let (say, said) = std::sync::mpsc::sync_channel(1);
    let run = move || {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .event_interval(STEPS)
            .build();
        let begun = runtime.and_then(|runtime| {
            let worker = runtime.block_on(async { Worker::new(sockets, probed, Arc::clone(&front)) })?;
            Ok((runtime, worker))
        });
        match begun {
            Ok((runtime, worker)) => {
                // whoever started it waits for this word
                let _ = say.send(Ok(()));
                runtime.block_on(async {
                    front.ending.run_until_cancelled(worker.run()).await;
                    front.last_answers().await;
                });
            }
            Err(error) => {
                let _ = say.send(Err(error));
            }
        }
    };
    let thread = thread::Builder::new()
        .name(format!("dns-udp-{number}"))
        .spawn(run)?;
    said.recv().map_err(io::Error::other)??;
    Ok(thread)
}

impl<H: Handler> Worker<H> {
    /// Must be called within the runtime that is to read.
    fn new(sockets: Vec<UdpSocket>, probed: UdpSocket, front: Arc<Front<H>>) -> io::Result<Self> {
        let watched = |socket: UdpSocket, is_probed| {
            socket.set_nonblocking(true)?;
            Ok(Socket {
                address: socket.local_addr()?,
                socket: Arc::new(socket),
                is_probed,
            })
        };
        let all = sockets.into_iter().map(|socket| watched(socket, false));
        let sockets = all.chain([watched(probed, true)]).collect::<io::Result<_>>()?;
        Ok(Self {
            sockets,
            front,
            waited: Arc::default(),
        })
    }

    /// For ever.
    async fn run(self) {
        let room = RefCell::new(Room::default());
        join_all(self.sockets.iter().map(|socket| self.follow(socket, &room))).await;
    }

    async fn follow(&self, socket: &Socket, room: &RefCell<Room<H>>) {
        let followed = async {
            let readable = readable(Arc::clone(&socket.socket))?;
            loop {
                let mut ready = readable.readable().await?;
                if self.read(socket, &mut room.borrow_mut()) {
                    ready.clear_ready();
                } else {
                    drop(ready);
                    tokio::task::yield_now().await;
                }
            }
        };
        let ended: io::Result<Infallible> = followed.await;
        let Err(error) = ended;
        error!(%error, "a DNS socket cannot be waited for: nobody is answered there any more");
    }

    /// Answers what is there. False where there may be more.
    fn read(&self, socket: &Socket, room: &mut Room<H>) -> bool {
        let mut is_empty = false;
        for _ in 0..ROUNDS {
            match room.batch.receive(&*socket.socket) {
                Ok(()) => {
                    self.answer(socket, room);
                    self.front.handler.sent(&mut room.turn.handlers);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                // errors of earlier sends are reported here too, and are done with by that
                Err(_) => {}
            }
        }
        if socket.is_probed {
            room.turn.tally = Counters::default();
        } else {
            self.front.counters.add(&mut room.turn.tally);
        }
        is_empty
    }

    fn answer(&self, socket: &Socket, room: &mut Room<H>) {
        let Room { batch, answers, turn } = room;
        let (now, count) = (clock::now(), batch.count());
        turn.tally.udp_received += count as u64;
        for (at, out) in answers.iter_mut().enumerate().take(count) {
            out.clear();
            let Some((bytes, way)) = batch.get(at) else {
                continue;
            };
            match self.decide(socket, bytes, way, now, turn, out) {
                Fate::Answer => {}
                Fate::Nothing => out.clear(),
                Fate::Later {
                    query,
                    client,
                    note,
                    account,
                } => {
                    if !self.later(socket, *way, &query, client, note, account, &mut turn.tally) {
                        overflow(&query, &client.reply, out);
                    }
                }
            }
        }
        let written = || {
            answers
                .iter()
                .take(count)
                .enumerate()
                .filter(|(_, message)| !message.is_empty())
        };
        let outgoing = written().filter_map(|(at, message)| {
            Some(Outgoing {
                message,
                way: batch.get(at)?.1,
            })
        });
        written().for_each(|(_, message)| turn.tally.answered(message));
        let (sent, wanted) = (datagram::send(&*socket.socket, outgoing), written().count());
        turn.tally.unsent += wanted.saturating_sub(sent) as u64;
    }

    fn decide(
        &self,
        socket: &Socket,
        bytes: &[u8],
        way: &Way,
        now: Duration,
        turn: &mut Turn<H>,
        out: &mut Vec<u8>,
    ) -> Fate<H::Note> {
        let Some(peer) = way.peer() else {
            return Fate::Nothing;
        };
        if !self.front.addresses.has(peer, now) {
            // silence: its source may be anybody's, an answer would make us the echo of an attack on them
            turn.tally.foreign += 1;
            return Fate::Nothing;
        }
        let local = way.local().unwrap_or_else(|| socket.address.ip());
        let (query, client) = match self
            .front
            .understand(bytes, peer, local, socket.address.port(), now)
        {
            Ok(understood) => understood,
            Err(unfit) => {
                turn.tally.malformed += 1;
                unfit.write(out);
                return Fate::Answer;
            }
        };
        if at_once(&query, &client.reply, out) {
            return Fate::Answer;
        }
        if socket.is_probed {
            self.front.handler.probe(&query, &client.reply, out);
            return Fate::Answer;
        }
        match self
            .front
            .handler
            .quick(&query, &client, now, &mut turn.handlers, out)
        {
            Quick::Answered => Fate::Answer,
            Quick::Drop => {
                turn.tally.dropped += 1;
                Fate::Nothing
            }
            Quick::Later { account, note } => Fate::Later {
                query: Box::new(query),
                client,
                note,
                account,
            },
        }
    }

    /// Keeps a timer near for as long as queries come that have to wait. Each of them sets timers; tokio wakes itself by a system
    /// call for one that is nearer than all others, on its own thread as well.
    fn linger(&self) {
        if self.waited.fetch_add(1, Relaxed) > 0 {
            return;
        }
        let waited = Arc::clone(&self.waited);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LINGERS).await;
                if waited.swap(1, Relaxed) == 1 {
                    waited.store(0, Relaxed);
                    return;
                }
            }
        });
    }

    /// Whether there was a place to wait.
    #[expect(
        clippy::too_many_arguments,
        reason = "all that is known of a query; a struct would only name it again"
    )]
    fn later(
        &self,
        socket: &Socket,
        way: Way,
        query: &Query,
        client: Client,
        note: H::Note,
        account: Account,
        tally: &mut Counters,
    ) -> bool {
        let Some(place) = self.front.enter(account) else {
            trace!(?account, "too many queries wait");
            tally.overflowed += 1;
            return false;
        };
        tally.later += 1;
        self.linger();
        let (front, socket, query) = (Arc::clone(&self.front), Arc::clone(&socket.socket), query.clone());
        tokio::spawn(async move {
            let message = front.handler.slow(query, client, note).await;
            drop(place);
            let mut tally = Counters::default();
            if message.is_empty() {
                tally.dropped += 1;
            } else {
                tally.answered(&message);
                let outgoing = Outgoing {
                    message: &message,
                    way: &way,
                };
                tally.unsent += 1 - datagram::send(&*socket, [outgoing]) as u64;
            }
            front.counters.add(&mut tally);
        });
        true
    }
}

/// Without interest in room for answers: each answer that is sent would wake its thread once more.
#[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
fn readable(socket: Arc<UdpSocket>) -> io::Result<AsyncFd<Arc<UdpSocket>>> {
    // SAFETY: the socket owns its descriptor, always gives the same one, and closes it when the last owner drops it.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?)
}

impl<H: Handler> Front<H> {
    /// A place to wait: one of the user's, and of those one of the group's.
    pub(super) fn enter(&self, account: Account) -> Option<[Place; 2]> {
        let key = (u128::from(account.user) << 64) | u128::from(account.group);
        Some([
            self.groups.enter(key)?,
            self.outstanding.enter(account.user.into())?,
        ])
    }

    /// Reads a datagram, and prepares what its answer depends on.
    fn understand(
        &self,
        bytes: &[u8],
        peer: SocketAddr,
        local: IpAddr,
        port: u16,
        now: Duration,
    ) -> Result<(Query, Client), Unfit> {
        let query = Query::parse(bytes)?;
        let reply = Reply::datagram(&query, self.limits.datagram);
        let mut client = Client {
            peer,
            local: SocketAddr::new(local, port),
            transport: Transport::Udp,
            has_cookie: false,
            reply,
        };
        self.cookie(&query, &mut client, now);
        Ok((query, client))
    }

    /// Prepares the cookie for a client that sent one.
    pub(super) fn cookie(&self, query: &Query, client: &mut Client, _now: Duration) {
        let Some(given) = query.edns().and_then(|edns| edns.cookie) else {
            return;
        };
        // the time in a cookie is the wall clock's, modulo 2³² (RFC 9018 §4.3)
        let (cookie, valid) = self
            .cookies
            .answer(&given, client.peer.ip(), clock::wall().as_secs() as u32);
        client.reply.cookie = Some(cookie);
        client.has_cookie = valid;
    }
}

/// Answers what has the same answer whoever asks. Whether it is such.
pub(super) fn at_once(query: &Query, reply: &Reply, out: &mut Vec<u8>) -> bool {
    if let Some(code) = query.refused_with() {
        refuse(query, code, None, reply, out);
        return true;
    }
    if query.kind() == dns_core::wire::kind::ANY {
        minimal_any(query, reply, out);
        return true;
    }
    false
}

/// SERVFAIL at once, rather than silence: the program learns it now and not after seconds, and it costs one datagram on
/// this host.
pub(super) fn overflow(query: &Query, reply: &Reply, out: &mut Vec<u8>) {
    refuse(
        query,
        code::SERVFAIL,
        Some((OTHER, "too many queries wait")),
        reply,
        out,
    );
}
