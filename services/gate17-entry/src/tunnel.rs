//! A CONNECT stream of HTTP/2 as a stream of octets, which the next hop's TLS, or a program's connection, goes through.
//!
//! A window is opened again only when its octets were taken: who reads slowly slows the far end, and nothing piles up here.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    circuit::{Circuit, Place},
    refusal::Refusal,
};

/// Octets handed over at once.
const MOST: usize = 256 << 10;

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

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut RecvStream>> {
        if let Answer::Expected(answer, opened) = &mut self.answer {
            let answer = ready!(Pin::new(answer).poll(context)).map_err(broken)?;
            if answer.status() != StatusCode::OK {
                let refusal = Refusal::of_answer(&self.node, answer.status(), answer.headers());
                return Poll::Ready(Err(io::Error::other(refusal)));
            }
            opened.store(true, Ordering::Relaxed);
            self.answer = Answer::Came(answer.into_body());
        }
        match &mut self.answer {
            Answer::Came(from) => Poll::Ready(Ok(from)),
            Answer::Expected(..) => Poll::Pending,
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
            let from = ready!(this.poll_answer(context))?;
            match ready!(from.poll_data(context)) {
                Some(data) => this.unread = data.map_err(broken)?,
                // a reset may look like an end: trailers tell
                None => {
                    return from
                        .poll_trailers(context)
                        .map(|end| end.map(drop).map_err(broken));
                }
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
        if this.unread.is_empty()
            && let Answer::Came(from) = &mut this.answer
        {
            let owed = std::mem::take(&mut this.owed);
            from.flow_control().release_capacity(owed).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if octets.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = octets.len().min(MOST);
        this.to.reserve_capacity(wanted);
        while this.to.capacity() == 0 {
            match ready!(this.to.poll_capacity(context)) {
                Some(given) => {
                    given.map_err(broken)?;
                }
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = wanted.min(this.to.capacity());
        let data = Bytes::copy_from_slice(octets.get(..count).unwrap_or_default());
        this.to.send_data(data, false).map_err(broken)?;
        if let Some(place) = &this.place {
            place
                .circuit()
                .carried
                .sent
                .fetch_add(count as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // the connection sends what it was given by itself
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.ended, true) {
            this.to.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
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
