//! Notes that a node says something, and that it is spoken to: who is heard is not silent, even where an answer waits behind much else
//! on a slow line.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How often something came, and went.
#[derive(Debug, Default)]
pub(super) struct Talk {
    heard: AtomicU64,
    said: AtomicU64,
}

impl Talk {
    /// Times that something came.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Times that something went.
    pub(super) fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }

    fn says(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.said.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

/// A stream of octets, and how often some came or went.
#[derive(Debug)]
pub(super) struct Heard<I> {
    io: I,
    talk: Arc<Talk>,
}

impl<I> Heard<I> {
    /// Counts into `talk`.
    pub(super) const fn new(io: I, talk: Arc<Talk>) -> Self {
        Self { io, talk }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Heard<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.talk.heard.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Heard<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, octets);
        self.talk.says(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, octets);
        self.talk.says(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_comes_and_what_goes_is_noted() {
        let (near, mut far) = duplex(64);
        let talk = Arc::new(Talk::default());
        let mut near = Heard::new(near, Arc::clone(&talk));
        near.write_all(b"ping").await.unwrap();
        assert_eq!((talk.heard(), talk.said()), (0, 1));
        far.write_all(b"pong").await.unwrap();
        let mut said = [0; 4];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!((&said, talk.heard(), talk.said()), (b"pong", 1, 1));
        drop(far);
        assert_eq!(near.read(&mut said).await.unwrap(), 0);
        assert_eq!(talk.heard(), 1, "an end is no word");
    }
}
