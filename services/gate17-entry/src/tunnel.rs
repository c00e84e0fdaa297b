//! A CONNECT stream of HTTP/2 as a stream of octets, which the next hop's TLS, or a program's connection, goes through.
//!
//! A window is opened again only when its octets were taken: who reads slowly slows the far end, and nothing piles up here.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    circuit::{Circuit, Place},
    refusal::Refusal,
};

/// Octets of a frame that is made of what a program said: with its head, it fills whole records of TLS. Few enough that they are in the
/// processor's cache from when they are read until they are sent.
pub const PIECE: usize = 4 * 16_384 - 9;
/// Octets of one that carries the next hop's records: all that TLS hands over at once.
const MOST: usize = 256 << 10;

#[derive(Debug)]
enum Answer {
    /// Its 200 is still to come; what is written meanwhile is on its way already. The flag says when it came.
    Expected(ResponseFuture, Arc<AtomicBool>),
    Came(RecvStream),
}

/// See the module's head. Dropped, it is cancelled.
pub struct Tunnel {
    node: String,
    answer: Answer,
    to: SendStream<Bytes>,
    unread: Bytes,
    /// Octets that were taken since the window was opened again.
    owed: usize,
    ended: bool,
    place: Option<Place>,
}

impl Tunnel {
    /// Used before the node has answered; `opened` becomes true when it has.
    pub fn early(
        node: &str,
        answer: ResponseFuture,
        to: SendStream<Bytes>,
        opened: &Arc<AtomicBool>,
    ) -> Self {
        Self::with(node, Answer::Expected(answer, Arc::clone(opened)), to, None)
    }

    /// The node has answered.
    pub fn open(node: &str, from: RecvStream, to: SendStream<Bytes>, place: Place) -> Self {
        Self::with(node, Answer::Came(from), to, Some(place))
    }

    /// The circuit that it goes through; none while that is being built.
    pub fn circuit(&self) -> Option<&Circuit> {
        self.place.as_ref().map(Place::circuit)
    }

    fn with(node: &str, answer: Answer, to: SendStream<Bytes>, place: Option<Place>) -> Self {
        Self {
            node: node.to_owned(),
            answer,
            to,
            unread: Bytes::new(),
            owed: 0,
            ended: false,
            place,
        }
    }

    /// Both directions, each by itself.
    pub fn split(&mut self) -> (Incoming<'_>, Outgoing<'_>) {
        let place = self.place.as_ref();
        let incoming = Incoming {
            answer: &mut self.answer,
            node: &self.node,
            place,
        };
        let outgoing = Outgoing {
            to: &mut self.to,
            ended: &mut self.ended,
            place,
        };
        (incoming, outgoing)
    }
}

/// What comes by a [`Tunnel`], a frame at a time.
#[derive(Debug)]
pub struct Incoming<'a> {
    answer: &'a mut Answer,
    node: &'a str,
    place: Option<&'a Place>,
}

impl Incoming<'_> {
    /// The next octets; None at the end.
    ///
    /// # Errors
    /// Where the stream broke, or was never opened.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let octets = poll_fn(|context| poll_next(self.answer, self.node, context)).await?;
        if let (Some(place), Some(octets)) = (self.place, &octets) {
            place
                .circuit()
                .carried
                .received
                .fetch_add(octets.len() as u64, Ordering::Relaxed);
        }
        Ok(octets)
    }

    /// So many of them are gone: as many more may come.
    ///
    /// # Errors
    /// Where the stream broke.
    pub fn taken(&mut self, octets: usize) -> io::Result<()> {
        self.answer.give_back(octets)
    }
}

/// What goes by a [`Tunnel`].
#[derive(Debug)]
pub struct Outgoing<'a> {
    to: &'a mut SendStream<Bytes>,
    ended: &'a mut bool,
    place: Option<&'a Place>,
}

impl Outgoing<'_> {
    /// Waits until some octets may go; how many, of those that are `wanted`.
    ///
    /// # Errors
    /// Where the stream broke.
    pub async fn room(&mut self, wanted: usize) -> io::Result<usize> {
        poll_fn(|context| poll_room(self.to, wanted, context)).await
    }

    /// Nothing goes for now: the circuit's other streams may have the room.
    pub fn give_back(&mut self) {
        self.to.reserve_capacity(0);
    }

    /// Hands over octets that there is room for.
    ///
    /// # Errors
    /// Where the stream broke.
    pub fn send(&mut self, octets: Bytes) -> io::Result<()> {
        send(self.to, self.place, octets)
    }

    /// No more goes.
    ///
    /// # Errors
    /// Where the stream broke.
    pub fn finish(&mut self) -> io::Result<()> {
        finish(self.to, self.ended)
    }
}

impl Answer {
    fn give_back(&mut self, octets: usize) -> io::Result<()> {
        match self {
            Self::Came(from) => from.flow_control().release_capacity(octets).map_err(broken),
            Self::Expected(..) => Ok(()),
        }
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.unread.is_empty() {
            match ready!(poll_next(&mut this.answer, &this.node, context))? {
                Some(data) => this.unread = data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(this.unread.get(..count).unwrap_or_default());
        this.unread.advance(count);
        if let Some(place) = &this.place {
            place
                .circuit()
                .carried
                .received
                .fetch_add(count as u64, Ordering::Relaxed);
        }
        this.owed += count;
        // TLS takes 4 KiB at once: a frame's window is given back in one
        if this.unread.is_empty() {
            this.answer.give_back(std::mem::take(&mut this.owed))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // the next hop's records are one frame: a frame for each would make two records of the hop before of it, and so on
        let wanted = parts.iter().map(|part| part.len()).sum::<usize>().min(MOST);
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let count = ready!(poll_room(&mut this.to, wanted, context))?;
        let mut data = BytesMut::with_capacity(count);
        for part in parts {
            let left = count - data.len();
            data.extend_from_slice(part.get(..left.min(part.len())).unwrap_or_default());
        }
        send(&mut this.to, this.place.as_ref(), data.freeze())?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // the connection sends what it was given by itself
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        Poll::Ready(finish(&mut this.to, &mut this.ended))
    }
}

/// The next frame's octets; None at the end.
fn poll_next(answer: &mut Answer, node: &str, context: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
    if let Answer::Expected(expected, opened) = answer {
        let came = ready!(Pin::new(expected).poll(context)).map_err(broken)?;
        if came.status() != StatusCode::OK {
            let refusal = Refusal::of_answer(node, came.status(), came.headers());
            return Poll::Ready(Err(io::Error::other(refusal)));
        }
        opened.store(true, Ordering::Relaxed);
        *answer = Answer::Came(came.into_body());
    }
    let Answer::Came(from) = answer else {
        return Poll::Pending;
    };
    match ready!(from.poll_data(context)) {
        Some(data) => Poll::Ready(data.map(Some).map_err(broken)),
        // a reset may look like an end: trailers tell
        None => from
            .poll_trailers(context)
            .map(|end| end.map(|_| None).map_err(broken)),
    }
}

/// How many of the `wanted` octets the window lets go now; at least one.
fn poll_room(
    to: &mut SendStream<Bytes>,
    wanted: usize,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    to.reserve_capacity(wanted);
    while to.capacity() == 0 {
        match ready!(to.poll_capacity(context)) {
            Some(given) => {
                given.map_err(broken)?;
            }
            None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }
    Poll::Ready(Ok(wanted.min(to.capacity())))
}

fn send(to: &mut SendStream<Bytes>, place: Option<&Place>, octets: Bytes) -> io::Result<()> {
    let count = octets.len() as u64;
    to.send_data(octets, false).map_err(broken)?;
    if let Some(place) = place {
        place.circuit().carried.sent.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}

fn finish(to: &mut SendStream<Bytes>, ended: &mut bool) -> io::Result<()> {
    if !std::mem::replace(ended, true) {
        to.send_data(Bytes::new(), true).map_err(broken)?;
    }
    Ok(())
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    }
}

#[cfg(test)]
mod tests;
