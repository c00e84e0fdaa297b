//! Between the sockets and the judge: translates, no more.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use dns_core::wire::{Query, Reply};
use verdict::Protocol;

use crate::{
    clients, filter,
    judge::{Arrived, Judge, Turn, Waits},
    server::{Client, Handler, Quick, Transport},
};

/// Answers by the judge's word.
#[derive(Debug)]
pub struct Front<L> {
    judge: Arc<Judge<L>>,
}

impl<L> Front<L> {
    /// See the type.
    pub fn new(judge: Arc<Judge<L>>) -> Self {
        Self { judge }
    }
}

/// What is known of a query that has to wait.
#[derive(Debug)]
pub struct Note<L> {
    /// When it came.
    at: Instant,
    known: Waits<L>,
}

impl<L: filter::Lists + Send + Sync + 'static> Handler for Front<L> {
    type Note = Note<L>;
    type Turn = Turn<L>;

    fn quick(
        &self,
        query: &Query,
        client: &Client,
        _: Duration,
        turn: &mut Turn<L>,
        out: &mut Vec<u8>,
    ) -> Quick<Note<L>> {
        let at = turn.at();
        let arrived = Arrived {
            query,
            client: &known(client),
            reply: &client.reply,
            at,
        };
        match self.judge.quick(&arrived, turn, out) {
            None => Quick::Answered,
            Some(known) => Quick::Later {
                account: known.look.account(),
                note: Note { at, known },
            },
        }
    }

    fn sent(&self, turn: &mut Turn<L>) {
        self.judge.sent(turn);
    }

    fn probe(&self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
        self.judge.probe(query, reply, out);
    }

    fn account(&self, peer: SocketAddr, local: SocketAddr) -> u64 {
        let client = clients::Client {
            protocol: Protocol::TCP,
            address: peer,
            server: local,
        };
        self.judge.clients.look(&client).account().user
    }

    async fn meet(&self, client: &Client) {
        self.judge.meet(&known(client)).await;
    }

    async fn slow(&self, query: Query, client: Client, Note { at, known: waits }: Note<L>) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let asker = known(&client);
        let arrived = Arrived {
            query: &query,
            client: &asker,
            reply: &client.reply,
            at,
        };
        self.judge.slow(&arrived, waits, &mut out).await;
        out
    }
}

fn known(client: &Client) -> clients::Client {
    clients::Client {
        protocol: match client.transport {
            Transport::Udp => Protocol::UDP,
            Transport::Tcp => Protocol::TCP,
        },
        address: client.peer,
        server: client.local,
    }
}
