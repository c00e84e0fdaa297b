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
    judge::{Arrived, Judge},
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

impl<L: filter::Lists + Send + Sync + 'static> Handler for Front<L> {
    /// When it came.
    type Note = Instant;

    fn quick(&self, query: &Query, client: &Client, _: Duration, out: &mut Vec<u8>) -> Quick<Instant> {
        let at = Instant::now();
        let asker = known(client);
        let arrived = Arrived {
            query,
            client: &asker,
            reply: &client.reply,
            at,
        };
        if self.judge.quick(&arrived, out) {
            return Quick::Answered;
        }
        Quick::Later {
            account: self.judge.clients.account(&asker),
            note: at,
        }
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
        self.judge.clients.account(&client).user
    }

    async fn meet(&self, client: &Client) {
        self.judge.meet(&known(client)).await;
    }

    async fn slow(&self, query: Query, client: Client, at: Instant) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let asker = known(&client);
        let arrived = Arrived {
            query: &query,
            client: &asker,
            reply: &client.reply,
            at,
        };
        self.judge.slow(&arrived, &mut out).await;
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
