//! Pages that a client wants from others in the clear, by their whole address (RFC 9112, section 3.2.2): what clients of a
//! proxy do for `http://`, where they do `CONNECT` for all else.
//!
//! One request a connection: the next may be for another server, and what is shown to this node is for nobody else. Nothing is
//! added that would tell of the client, or of this node.

mod body;
mod head;

use std::io;

use bytes::BytesMut;
use http::header;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, copy,
        copy_buf, sink, split,
    },
    net::TcpStream,
    time::timeout,
};

use super::{
    LINGER, Next, Talk,
    carried::{BUFFER, drained},
    reply,
};
use crate::{
    dial::{self, Failure},
    http1::{Asked, Body, LARGEST_BODY},
    stream::Begun,
    tunnel::refusal,
};
use head::Wanted;

/// Whether a server is asked for in that way. What is shown as `Authorization` is meant for that server.
pub(super) fn is_asked(asked: &Asked, is_open: bool) -> bool {
    let shown = asked.headers.contains_key(header::PROXY_AUTHORIZATION)
        || !asked.headers.contains_key(header::AUTHORIZATION);
    head::is_whole(&asked.target) && (shown || is_open)
}

impl<I> Talk<I>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Asks there, and gives the answer as it comes.
    pub(super) async fn forward(self, asked: &Asked) -> Next<I> {
        let Ok(body) = asked.body() else {
            return self.refuse(Failure::Denied).await;
        };
        let Some(_held) = self.client.opens(&self.node.opens) else {
            return self.refuse(Failure::Limit).await;
        };
        let Some(wanted) = Wanted::of(asked) else {
            return self.refuse(Failure::Denied).await;
        };
        let server = match dial::connect(&self.node, &wanted.target).await {
            Ok(server) => server,
            Err(failure) => return self.refuse(failure).await,
        };
        self.node.status.counter("streams_opened").add(1);
        let Some(_room) = self.client.room(2 * BUFFER).await else {
            return Next::Gone;
        };
        let own = Begun::new(self.buffer, self.io);
        tokio::select! {
            // there is nobody to be told
            _ = exchange(own, server, wanted.head(asked, body), body) => {}
            () = drained(&self.node) => {}
        }
        Next::Gone
    }
}

/// One request there, one answer back; over as well when the client goes.
async fn exchange<I>(own: I, server: TcpStream, head: BytesMut, body: Body) -> io::Result<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (client, mut to_client) = split(own);
    let mut client = BufReader::with_capacity(BUFFER, client);
    let (server, mut to_server) = server.into_split();
    let mut server = BufReader::with_capacity(BUFFER, server);
    let asks = async {
        let asked = to_server.write_all(&head).await.map_err(|_| body::Broken::There);
        let sent = match asked {
            Ok(()) => body::pass(&mut client, &mut to_server, body).await,
            Err(broken) => Err(broken),
        };
        // a server may have answered before it read all, and a client may have more to ask: neither ends the answer
        if !matches!(sent, Err(body::Broken::Here))
            && client.fill_buf().await.is_ok_and(|octets| !octets.is_empty())
        {
            std::future::pending::<()>().await;
        }
    };
    let answers = async {
        match head::answer(&mut server).await {
            Ok(head) => to_client.write_all(&head).await?,
            Err(_) => {
                let response = refusal(Failure::Unreachable);
                to_client.write_all(&reply::head(&response, false)).await?;
                to_client.write_all(response.body()).await?;
                return to_client.shutdown().await;
            }
        }
        copy_buf(&mut server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::select! {
        () = asks => return Ok(()),
        answered = answers => answered?,
    }
    // what the client still says must not turn the end of the answer into a reset
    let _ = timeout(LINGER, copy(&mut client.take(LARGEST_BODY), &mut sink())).await;
    Ok(())
}
