//! The seam between the front and those who know answers.

use std::{
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dns_core::wire::{Query, Reply, code, refuse};

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// As a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from.
    pub peer: SocketAddr,
    /// The address of ours that it came to; after a redirect not the one that the program asked.
    pub local: SocketAddr,
    /// How.
    pub transport: Transport,
    /// Whether it came with a cookie that we gave it.
    pub has_cookie: bool,
    /// What its answer depends on: sizes, cookie. To be handed to whatever writes the answer.
    pub reply: Reply,
}

/// On whose account something waits. Neither has more than its part of what may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// A user.
    pub user: u64,
    /// Those of his programs that belong together, as far as that is seen at once.
    pub group: u64,
}

/// What is known at once.
#[derive(Debug)]
pub enum Quick<N> {
    /// The answer is written.
    Answered,
    /// There is none to be given.
    Drop,
    /// It takes time: [`Handler::slow`] gets the note.
    Later {
        /// On whose account it waits.
        account: Account,
        /// What was found out so far.
        note: N,
    },
}

/// Knows answers.
pub trait Handler: Send + Sync + 'static {
    /// What [`Handler::quick`] found out and [`Handler::slow`] needs.
    type Note: Send + 'static;

    /// What holds for all queries that were received at once.
    type Turn: Default;

    /// Answers from what is at hand, into `out`. Runs on the thread that receives: must neither wait nor allocate. The
    /// query is one for the Internet class and a type that resolvers resolve. `now`: [`super::now`].
    fn quick(
        &self,
        query: &Query,
        client: &Client,
        now: Duration,
        turn: &mut Self::Turn,
        out: &mut Vec<u8>,
    ) -> Quick<Self::Note>;

    /// What was answered at once of a turn is sent. The same value serves for the next one: nothing may be left in it that
    /// holds for this one alone.
    fn sent(&self, _turn: &mut Self::Turn) {}

    /// Finds the answer out. An empty one is not sent.
    fn slow(&self, query: Query, client: Client, note: Self::Note) -> impl Future<Output = Vec<u8>> + Send;

    /// Answers a question of the server's own, for `localhost`, as any other and without telling of it. What is written
    /// proves that answers are given.
    fn probe(&self, query: &Query, reply: &Reply, out: &mut Vec<u8>) {
        refuse(query, code::NOERROR, None, reply, out);
    }

    /// Finds out who has opened a connection, before the first query on it is answered.
    fn meet(&self, _client: &Client) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// On whose account a TCP connection is kept. Without better knowledge: that of its address.
    fn account(&self, peer: SocketAddr, _local: SocketAddr) -> u64 {
        account_of(peer.ip())
    }
}

/// The account of an address.
fn account_of(address: IpAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    address.hash(&mut hasher);
    hasher.finish()
}
