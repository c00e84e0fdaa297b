//! HTTP/1.1: `CONNECT` and pages of others for clients that speak nothing newer, names and own pages; in the clear, own pages
//! and the way to TLS (RFC 2817).

use std::{sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Response, StatusCode, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes},
    time::timeout,
};

use crate::{
    access::Caller,
    http1::{self, Asked, Fault, LARGEST_BODY, Version},
    limits::{Client, Held},
    node::Node,
    page::{self, Visit},
    served,
    stream::Begun,
    tunnel::DNS_MESSAGE,
};

mod body;
mod carried;
mod forwarded;
mod reply;

use carried::wants_datagrams;

const PIECE: usize = 4 << 10;
/// Each way, for visitors of somebody else's web server.
const HANDED: usize = 16 << 10;
/// Between two requests.
const IDLE: Duration = Duration::from_secs(75);
const REQUESTS: usize = 1000;
/// After the last word, what the caller still says must not turn it into a reset.
const LINGER: Duration = Duration::from_secs(5);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What a caller came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TLS.
    Secure,
    /// In the clear, where that is expected.
    Clear,
    /// In the clear, where TLS is expected.
    Mistaken,
}

struct Talk<I> {
    io: I,
    /// Came, and was not used yet.
    buffer: BytesMut,
    node: Arc<Node>,
    client: Arc<Client>,
    caller: Arc<Caller>,
    way: Way,
}

/// With the octets that it takes, or what is wrong with it.
type Head = Result<(Box<Asked>, usize), Fault>;

/// What becomes of a connection after a request.
enum Next<I> {
    Again(Talk<I>),
    /// All is said: it is to be closed.
    Close(Talk<I>),
    /// It is over, or somebody else's.
    Gone,
}

/// Serves one connection to its end. A caller is through the door with the first request.
pub async fn serve<I>(
    io: I,
    node: Arc<Node>,
    client: Arc<Client>,
    handshake: Held,
    caller: Arc<Caller>,
    way: Way,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut handshake = Some(handshake);
    let drain = node.drain_token();
    let mut talk = Talk {
        io,
        buffer: BytesMut::new(),
        node,
        client,
        caller,
        way,
    };
    for number in 0..REQUESTS {
        let begun = tokio::select! {
            begun = talk.begun(number == 0) => begun,
            // whoever was let in is answered once
            () = drain.cancelled(), if number > 0 => None,
        };
        let time = talk.node.handshake_time();
        let Some(Ok(Some(head))) = (match begun {
            Some(()) => Some(timeout(time, talk.head()).await),
            None => None,
        }) else {
            return;
        };
        handshake.take();
        let stays = number + 1 < REQUESTS && !drain.is_cancelled();
        let next = match head {
            _ if number == 0 && talk.is_for_upstream(&head) => return talk.hand_on().await,
            Ok((asked, taken)) => {
                talk.buffer.advance(taken);
                talk.answer(*asked, stays).await
            }
            Err(fault) => talk.end(page::fault(fault)).await,
        };
        match next {
            Next::Again(same) => talk = same,
            Next::Close(same) => return same.close().await,
            Next::Gone => return,
        }
    }
}

impl<I> Talk<I>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Until there is something to read.
    async fn begun(&mut self, is_first: bool) -> Option<()> {
        if !self.buffer.is_empty() {
            return Some(());
        }
        // memory is taken when there is something to put there
        self.buffer = BytesMut::new();
        let patience = if is_first {
            self.node.handshake_time()
        } else {
            IDLE
        };
        timeout(patience, self.more()).await.ok()?
    }

    /// Some more; None at the end.
    async fn more(&mut self) -> Option<()> {
        self.buffer.reserve(PIECE);
        let count = self.io.read_buf(&mut self.buffer).await.ok()?;
        (count > 0).then_some(())
    }

    /// A head, or what is wrong with it; None where the connection ends.
    async fn head(&mut self) -> Option<Head> {
        loop {
            match http1::read(&self.buffer) {
                http1::Read::Whole(asked, taken) => return Some(Ok((asked, taken))),
                http1::Read::Fault(fault) => return Some(Err(fault)),
                http1::Read::More => self.more().await?,
            }
        }
    }

    async fn answer(mut self, asked: Asked, stays: bool) -> Next<I> {
        let is_admitted = self.way == Way::Secure && self.node.access.admits(&asked.headers, &self.caller);
        if is_admitted && asked.method == Method::CONNECT {
            return self.connect(&asked).await;
        }
        if is_admitted && wants_datagrams(&asked) {
            return self.datagrams(&asked).await;
        }
        if is_admitted && forwarded::is_asked(&asked, self.node.access.is_open()) {
            return self.forward(&asked).await;
        }
        if self.way == Way::Clear && wants_tls(&asked) {
            return self.secure().await;
        }
        if let Some(fault) = asked.fault() {
            return self.end(page::fault(fault)).await;
        }
        if self.way == Way::Mistaken {
            return self.end(page::mistaken()).await;
        }
        let Ok(body) = asked.body() else {
            return Next::Gone;
        };
        if asked.says(header::EXPECT, "100-continue")
            && asked.version == Version::One
            && self.io.write_all(CONTINUE).await.is_err()
        {
            return Next::Gone;
        }
        if is_admitted
            && is_map(&asked)
            && let Some(map) = served::answer(&self.node, &asked.headers)
        {
            return self.say(map, stays && asked.stays()).await;
        }
        if is_admitted && is_name_query(&asked) {
            let answered = self.name(body).await;
            return self.say(answered, stays && asked.stays()).await;
        }
        let visit = Visit {
            method: &asked.method,
            target: &asked.target,
            // the version that has no such header is asked here
            host: Some(asked.host()),
            secure: self.way == Way::Secure,
            headers: &asked.headers,
        };
        let response = self.node.pages.answer(&visit);
        if asked.version == Version::Bare {
            let _ = self.io.write_all(response.body()).await;
            return Next::Close(self);
        }
        let stays = stays
            && asked.stays()
            && asked.method != Method::TRACE
            && !reply::ends_a_connection(response.status());
        match self.say(response, stays).await {
            Next::Again(mut same) => match same.skip(body).await {
                Some(()) => Next::Again(same),
                None => Next::Gone,
            },
            other => other,
        }
    }

    async fn say(mut self, response: Response<Bytes>, stays: bool) -> Next<I> {
        let mut octets = reply::head(&response, stays);
        octets.extend_from_slice(response.body());
        // who reads nothing is waited for as long as for who says nothing
        match timeout(IDLE, self.io.write_all(&octets)).await {
            Ok(Ok(())) if self.io.flush().await.is_ok() => {}
            _ => return Next::Gone,
        }
        if stays {
            Next::Again(self)
        } else {
            Next::Close(self)
        }
    }

    async fn end(self, response: Response<Bytes>) -> Next<I> {
        self.say(response, false).await
    }

    async fn close(mut self) {
        let said = async {
            self.io.shutdown().await?;
            self.buffer.clear();
            let mut left = LARGEST_BODY;
            while left > 0 {
                self.buffer.clear();
                self.buffer.reserve(PIECE);
                match self.io.read_buf(&mut self.buffer).await? {
                    0 => break,
                    count => left = left.saturating_sub(count as u64),
                }
            }
            Ok::<_, std::io::Error>(())
        };
        let _ = timeout(LINGER, said).await;
    }

    /// Whether somebody else's web server answers, in its own words: then the whole connection is its own.
    fn is_for_upstream(&self, head: &Head) -> bool {
        let own = head.as_ref().is_ok_and(|(asked, _)| match self.way {
            Way::Clear => wants_tls(asked),
            _ => {
                self.node.access.admits(&asked.headers, &self.caller)
                    && (is_ours(asked) || forwarded::is_asked(asked, self.node.access.is_open()))
            }
        });
        self.node.upstream.is_some() && self.way != Way::Mistaken && !own
    }

    async fn hand_on(mut self) {
        let Some(upstream) = self.node.upstream.clone() else {
            return;
        };
        match upstream.connect().await {
            Ok(mut other) => {
                let mut own = Begun::new(self.buffer, self.io);
                let _ = copy_bidirectional_with_sizes(&mut own, &mut other, HANDED, HANDED).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the web server behind this node does not answer");
                self.buffer.clear();
                if let Next::Close(same) = self.end(page::error(StatusCode::BAD_GATEWAY)).await {
                    same.close().await;
                }
            }
        }
    }
}

fn is_ours(asked: &Asked) -> bool {
    asked.method == Method::CONNECT || wants_datagrams(asked) || is_name_query(asked) || is_map(asked)
}

fn is_map(asked: &Asked) -> bool {
    served::is_asked(&asked.method, &asked.target)
}

/// `POST /dns-query` (RFC 8484).
fn is_name_query(asked: &Asked) -> bool {
    asked.method == Method::POST
        && asked.target == "/dns-query"
        && asked
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == DNS_MESSAGE)
}

/// `Upgrade: TLS/1.3`, of which `Connection` says that it is meant.
fn wants_tls(asked: &Asked) -> bool {
    asked.says(header::UPGRADE, "TLS/1.3") && asked.says(header::CONNECTION, "upgrade")
}
