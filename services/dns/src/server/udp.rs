//! A thread that answers datagrams.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use dns_core::wire::{Query, Reply, Unfit, code, minimal_any, refuse};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, trace};

use super::{
    Account, Client, Counters, Front, Handler, Place, Quick, Transport, clock,
    datagram::{self, BATCH, Batch, Outgoing, Way},
};

/// Extended DNS Error "Other" (RFC 8914 §4.1).
const OTHER: u16 = 0;
/// So many batches of one socket before the others get their turn.
const ROUNDS: usize = 8;

pub(super) struct Worker<H> {
    sockets: Vec<Socket>,
    stop: OwnedFd,
    front: Arc<Front<H>>,
    runtime: Handle,
}

/// A socket and its own address; where that is a wildcard, each datagram says which it came to.
struct Socket {
    socket: Arc<UdpSocket>,
    address: SocketAddr,
    /// Only our own [`super::probe::Probe`] can send here.
    is_probed: bool,
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

impl<H: Handler> Worker<H> {
    /// Prepares the sockets.
    pub(super) fn new(
        sockets: Vec<UdpSocket>,
        probed: Arc<UdpSocket>,
        front: Arc<Front<H>>,
        runtime: Handle,
        shutdown: &CancellationToken,
    ) -> io::Result<Self> {
        let prepared = |socket: UdpSocket| {
            datagram::prepare(&socket)?;
            let address = socket.local_addr()?;
            Ok(Socket {
                socket: Arc::new(socket),
                address,
                is_probed: false,
            })
        };
        let mut sockets = sockets
            .into_iter()
            .map(prepared)
            .collect::<io::Result<Vec<_>>>()?;
        sockets.push(Socket {
            address: probed.local_addr()?,
            socket: probed,
            is_probed: true,
        });
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (bell, shutdown) = (stop.try_clone()?, shutdown.clone());
        runtime.spawn(async move {
            shutdown.cancelled().await;
            // a counter of eight bytes takes this
            let _ = rustix::io::write(&bell, &1u64.to_ne_bytes());
        });
        Ok(Self {
            sockets,
            stop,
            front,
            runtime,
        })
    }

    /// Until the stop.
    pub(super) fn run(self) {
        let mut batch = Batch::new();
        let mut answers: Vec<Vec<u8>> = (0..BATCH).map(|_| Vec::with_capacity(4096)).collect();
        let sockets = self
            .sockets
            .iter()
            .map(|socket| PollFd::new(&socket.socket, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = sockets.chain([PollFd::new(&self.stop, PollFlags::IN)]).collect();
        loop {
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    error!(%errno, "poll of the DNS sockets: this thread answers no more");
                    return;
                }
            }
            if polled.last().is_some_and(|stop| !stop.revents().is_empty()) {
                return;
            }
            for (socket, ready) in self.sockets.iter().zip(&polled) {
                if !ready.revents().is_empty() {
                    self.read(socket, &mut batch, &mut answers);
                }
            }
        }
    }

    /// Answers what is there.
    fn read(&self, socket: &Socket, batch: &mut Batch, answers: &mut [Vec<u8>]) {
        let mut tally = Counters::default();
        for _ in 0..ROUNDS {
            // errors of earlier sends are reported here too, and are done with by that
            let Ok(count) = batch.receive(&socket.socket) else {
                break;
            };
            self.answer(socket, batch, count, answers, &mut tally);
            if count < BATCH {
                break;
            }
        }
        if !socket.is_probed {
            self.front.counters.add(&mut tally);
        }
    }

    fn answer(
        &self,
        socket: &Socket,
        batch: &Batch,
        count: usize,
        answers: &mut [Vec<u8>],
        tally: &mut Counters,
    ) {
        let now = clock::now();
        tally.udp_received += count as u64;
        for (at, out) in answers.iter_mut().enumerate().take(count) {
            out.clear();
            let Some((bytes, way)) = batch.get(at) else {
                continue;
            };
            match self.decide(socket, bytes, way, now, out, tally) {
                Fate::Answer => {}
                Fate::Nothing => out.clear(),
                Fate::Later {
                    query,
                    client,
                    note,
                    account,
                } => {
                    if !self.later(socket, *way, &query, client, note, account, tally) {
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
        written().for_each(|(_, message)| tally.answered(message));
        let (sent, wanted) = (datagram::send(&socket.socket, outgoing), written().count());
        tally.unsent += wanted.saturating_sub(sent) as u64;
    }

    fn decide(
        &self,
        socket: &Socket,
        bytes: &[u8],
        way: &Way,
        now: Duration,
        out: &mut Vec<u8>,
        tally: &mut Counters,
    ) -> Fate<H::Note> {
        let Some(peer) = way.peer() else {
            return Fate::Nothing;
        };
        if !self.front.addresses.has(peer, now) {
            // silence: its source may be anybody's, an answer would make us the echo of an attack on them
            tally.foreign += 1;
            return Fate::Nothing;
        }
        let local = way.local().unwrap_or_else(|| socket.address.ip());
        let (query, client) = match self
            .front
            .understand(bytes, peer, local, socket.address.port(), now)
        {
            Ok(understood) => understood,
            Err(unfit) => {
                tally.malformed += 1;
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
        match self.front.handler.quick(&query, &client, now, out) {
            Quick::Answered => Fate::Answer,
            Quick::Drop => {
                tally.dropped += 1;
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
        let (front, socket, query) = (Arc::clone(&self.front), Arc::clone(&socket.socket), query.clone());
        self.runtime.spawn(async move {
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
                tally.unsent += 1 - datagram::send(&socket, [outgoing]) as u64;
            }
            front.counters.add(&mut tally);
        });
        true
    }
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
