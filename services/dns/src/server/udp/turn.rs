//! What was received at once: answered, or left to wait.

use std::{io, sync::Arc, time::Duration};

use dns_core::wire::Query;
use tracing::trace;

use super::{Socket, Worker};
use crate::server::{
    Account, Client, Counters, Handler, Quick, clock,
    datagram::{self, BATCH, Batch, Outgoing, Sender, Way},
    taken::{at_once, overflow},
};

/// So many batches of one socket before the others, and what waits, get their turn.
const ROUNDS: usize = 8;

/// What is received into and answered from.
pub(super) struct Room<H: Handler> {
    batch: Batch,
    answers: Vec<Vec<u8>>,
    sender: Sender,
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
            sender: Sender::default(),
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

impl<H: Handler> Worker<H> {
    /// Answers what is there. False where there may be more.
    pub(super) fn read(&self, socket: &Socket, room: &mut Room<H>) -> bool {
        let mut is_empty = false;
        for _ in 0..ROUNDS {
            match room.batch.receive(&*socket.socket) {
                Ok(()) => {
                    self.answer(socket, room);
                    self.front.handler.sent(&mut room.turn.handlers);
                    // it was empty then; what comes later is told of anew
                    if room.batch.count() < BATCH {
                        is_empty = true;
                        break;
                    }
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
        let Room {
            batch,
            answers,
            sender,
            turn,
        } = room;
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
        let answer = |at: usize| {
            let message = answers.get(at).filter(|message| !message.is_empty())?;
            Some(Outgoing {
                message,
                way: batch.get(at)?.1,
            })
        };
        let written = (0..count).filter_map(answer).map(|outgoing| outgoing.message);
        let wanted = written.map(|message| turn.tally.answered(message)).count();
        let sent = sender.send(&*socket.socket, count, answer);
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
        let (query, client) = match self.front.understand(bytes, peer, local, socket.address.port()) {
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
                tally.unsent += u64::from(!datagram::send_one(&*socket, outgoing));
            }
            front.counters.add(&mut tally);
        });
        true
    }
}
