//! Notes that a node says something: who is heard is not silent, even where an answer waits behind much else on a slow line.

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

/// A stream of octets, and how often some came.
#[derive(Debug)]
pub(super) struct Heard<I> {
    io: I,
    times: Arc<AtomicU64>,
}

impl<I> Heard<I> {
    /// Counts into `times`.
    pub(super) const fn new(io: I, times: Arc<AtomicU64>) -> Self {
        Self { io, times }
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
            self.times.fetch_add(1, Ordering::Relaxed);
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
        Pin::new(&mut self.io).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, octets)
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
    async fn what_comes_is_noted_and_what_goes_is_not() {
        let (near, mut far) = duplex(64);
        let times = Arc::new(AtomicU64::new(0));
        let mut near = Heard::new(near, Arc::clone(&times));
        near.write_all(b"ping").await.unwrap();
        assert_eq!(times.load(Ordering::Relaxed), 0);
        far.write_all(b"pong").await.unwrap();
        let mut said = [0; 4];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!((&said, times.load(Ordering::Relaxed)), (b"pong", 1));
        drop(far);
        assert_eq!(near.read(&mut said).await.unwrap(), 0);
        assert_eq!(times.load(Ordering::Relaxed), 1, "an end is no word");
    }
}
