//! What is done for who may: connections, datagrams and names; and TLS for who came without.

use bytes::Bytes;
use gate17_proto::target::Target;
use http::{Response, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes},
    net::TcpStream,
};

use super::{Next, Talk};
use crate::{
    datagrams::upgraded,
    dial::{self, Failure},
    dns_query, door,
    http1::{Asked, Body, Version},
    limits::{Held, Kind},
    node::Node,
    page,
    stream::Begun,
    tunnel::{DNS_MESSAGE, refusal},
};

/// Each way.
pub(super) const BUFFER: usize = 64 << 10;
const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const TO_TLS: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.3, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n";
/// RFC 9298, section 3.3.
const TO_DATAGRAMS: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\
      Capsule-Protocol: ?1\r\n\r\n";

/// `Upgrade: connect-udp` (RFC 9298, section 3.2), of which `Connection` says that it is meant.
pub(super) fn wants_datagrams(asked: &Asked) -> bool {
    asked.method == http::Method::GET
        && asked.version == Version::One
        && asked.says(header::UPGRADE, "connect-udp")
        && asked.says(header::CONNECTION, "upgrade")
}

/// Where to; the whole URI may stand there as well.
fn datagrams_to(asked: &Asked) -> Option<Target> {
    let path = match asked.target.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..))?,
        None => &asked.target,
    };
    Target::from_udp_path(path).ok()
}

impl<I> Talk<I>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    pub(super) async fn connect(mut self, asked: &Asked) -> Next<I> {
        let Some(held) = self.client.opens(&self.node.opens) else {
            return self.refuse(Failure::Limit).await;
        };
        let Ok(target) = asked.target.parse() else {
            return self.refuse(Failure::Denied).await;
        };
        let connection = match dial::connect(&self.node, &target).await {
            Ok(connection) => connection,
            Err(failure) => return self.refuse(failure).await,
        };
        self.node.status.counter("streams_opened").add(1);
        if self.io.write_all(OPEN).await.is_ok() && self.io.flush().await.is_ok() {
            self.carry(connection, held).await;
        }
        Next::Gone
    }

    async fn carry(self, mut connection: TcpStream, _held: Held) {
        let Some(_room) = self.client.room(2 * BUFFER).await else {
            return;
        };
        let mut own = Begun::new(self.buffer, self.io);
        let copy = copy_bidirectional_with_sizes(&mut own, &mut connection, BUFFER, BUFFER);
        tokio::select! {
            _ = copy => {}
            () = drained(&self.node) => {}
        }
    }

    pub(super) async fn refuse(self, failure: Failure) -> Next<I> {
        self.node.status.counter("streams_refused").add(1);
        self.say(refusal(failure), true).await
    }

    pub(super) async fn name(&mut self, body: Body) -> Response<Bytes> {
        let failed = |node: &Node, failure| {
            node.status.counter("streams_refused").add(1);
            refusal(failure)
        };
        let Some(_held) = self.client.opens(&self.node.opens) else {
            return failed(&self.node, Failure::Limit);
        };
        let question = match body {
            Body::Length(length) if length <= dns_query::LARGEST as u64 => self.part(length).await,
            _ => None,
        };
        let answered = match (self.node.resolver, question) {
            (Some(resolver), Some(question)) if self.node.rules.is_exit() => {
                dns_query::ask(resolver, &question).await
            }
            _ => Err(Failure::Denied),
        };
        match answered {
            Ok(answer) => page::respond(StatusCode::OK, DNS_MESSAGE, answer),
            Err(failure) => failed(&self.node, failure),
        }
    }

    /// TLS on this very connection, once it is said.
    pub(super) async fn secure(mut self) -> Next<I> {
        let Some(held) = self.client.take(Kind::Handshake) else {
            return self.end(page::error(StatusCode::SERVICE_UNAVAILABLE)).await;
        };
        if self.io.write_all(TO_TLS).await.is_ok() && self.io.flush().await.is_ok() {
            let io = Begun::new(self.buffer, self.io);
            door::secure(io, self.node, self.client, held).await;
        }
        Next::Gone
    }

    /// Datagrams (RFC 9298).
    pub(super) async fn datagrams(mut self, asked: &Asked) -> Next<I> {
        if asked.fault().is_some() || asked.body() != Ok(Body::Length(0)) {
            return self.end(page::error(StatusCode::BAD_REQUEST)).await;
        }
        let Some(held) = self.client.opens(&self.node.opens) else {
            return self.refuse(Failure::Limit).await;
        };
        let Some(target) = datagrams_to(asked) else {
            return self.refuse(Failure::Denied).await;
        };
        let socket = match dial::connect_udp(&self.node, &target).await {
            Ok(socket) => socket,
            Err(failure) => return self.refuse(failure).await,
        };
        self.node.status.counter("streams_opened").add(1);
        if self.io.write_all(TO_DATAGRAMS).await.is_err() || self.io.flush().await.is_err() {
            return Next::Gone;
        }
        let _held = held;
        let node = self.node;
        let io = Begun::new(self.buffer, self.io);
        tokio::select! {
            () = upgraded::carry(io, socket, target.port, &self.client) => {}
            () = drained(&node) => {}
        }
        Next::Gone
    }
}

/// What is carried has to end.
pub(super) async fn drained(node: &Node) {
    node.drain_token().cancelled().await;
    tokio::time::sleep(node.drain_time()).await;
}
