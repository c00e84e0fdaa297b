//! A connection of HTTP/2 over TLS on which what is written has a length of a grid: what comes together is held back until
//! it is flushed, filled, and handed on a record at a time. Without a grid, all passes as it is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use gate17_proto::padding::{Frames, Grid, RECORD};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets held back; more are handed on before they are flushed.
const MOST: usize = 4 * RECORD;

/// The grid of a connection, which may come later; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<AtomicU16>);

impl Wanted {
    /// From now on; it stays.
    pub fn set(&self, grid: Grid) {
        self.0.store(grid.octets(), Ordering::Relaxed);
    }

    /// As it is now.
    pub fn get(&self) -> Option<Grid> {
        Grid::new(self.0.load(Ordering::Relaxed))
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Padded<I> {
    io: I,
    wanted: Wanted,
    frames: Frames,
    /// Not handed on.
    out: BytesMut,
    /// Of that, what is whole records of the grid by now.
    ready: usize,
    /// A record was handed on, and is to go before the next.
    is_to_flush: bool,
}

impl<I> Padded<I> {
    /// `frames`: whose it is.
    pub fn new(io: I, frames: Frames, wanted: Wanted) -> Self {
        Self {
            io,
            wanted,
            frames,
            out: BytesMut::new(),
            ready: 0,
            is_to_flush: false,
        }
    }
}

impl<I: AsyncWrite + Unpin> Padded<I> {
    /// Hands on what is ready, a record at a time: TLS makes one of each.
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.ready > 0 {
            if self.is_to_flush {
                ready!(Pin::new(&mut self.io).poll_flush(context))?;
                self.is_to_flush = false;
            }
            let record = self.out.get(..self.ready.min(RECORD)).unwrap_or_default();
            let count = ready!(Pin::new(&mut self.io).poll_write(context, record))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
            self.ready -= count;
            self.is_to_flush = true;
        }
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(context))?;
        if !self.out.is_empty() {
            // within a frame, or a list of headers, nothing can be added: the rest of it comes
            if let Some(grid) = self.wanted.get()
                && self.frames.is_between()
            {
                grid.fill(&mut self.out);
            }
            self.ready = self.out.len();
            ready!(self.poll_out(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Padded<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Padded<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.wanted.get().is_none() && this.out.is_empty() {
            let count = ready!(Pin::new(&mut this.io).poll_write_vectored(context, parts))?;
            let mut left = count;
            for part in parts {
                let taken = part.get(..left.min(part.len())).unwrap_or_default();
                this.frames.pass(taken);
                left -= taken.len();
            }
            return Poll::Ready(Ok(count));
        }
        ready!(this.poll_out(context))?;
        let mut count = 0;
        for part in parts {
            let room = MOST.saturating_sub(this.out.len());
            let taken = part.get(..room.min(part.len())).unwrap_or_default();
            this.frames.pass(taken);
            this.out.extend_from_slice(taken);
            count += taken.len();
        }
        if this.out.len() >= MOST {
            // whole records need no filling
            this.ready = MOST;
            // what cannot go now goes before the next
            if let Poll::Ready(Err(error)) = this.poll_out(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_all(context))?;
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.is_to_flush = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_all(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes what it is given, and notes each flush.
    #[derive(Debug, Default)]
    struct Records(Vec<Vec<u8>>, Vec<u8>);

    impl AsyncWrite for Records {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            octets: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.extend_from_slice(octets);
            Poll::Ready(Ok(octets.len()))
        }
        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let record = std::mem::take(&mut self.1);
            if !record.is_empty() {
                self.0.push(record);
            }
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(context)
        }
    }

    fn data(length: usize) -> Vec<u8> {
        let mut octets = vec![
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
            0,
            0,
            0,
            0,
            0,
            1,
        ];
        octets.resize(octets.len() + length, 5);
        octets
    }

    /// Octets without frames of padding.
    fn said(octets: &[u8]) -> Vec<u8> {
        let (mut rest, mut said) = (octets, Vec::new());
        while let [a, b, c, kind, ..] = rest {
            let whole = 9 + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c));
            if *kind != gate17_proto::padding::TYPE {
                said.extend_from_slice(&rest[..whole]);
            }
            rest = &rest[whole..];
        }
        said
    }

    #[tokio::test]
    async fn records_have_a_length_of_the_grid_and_all_that_is_said_comes() {
        let wanted = Wanted::default();
        let mut padded = Padded::new(Records::default(), Frames::of_server(), wanted.clone());
        let mut all = Vec::new();
        for (turn, length) in [3_usize, 0, 1000, 70_000, 16_384 - 9, 1, 200_000]
            .into_iter()
            .enumerate()
        {
            if turn == 1 {
                wanted.set(Grid::new(1024).unwrap());
            }
            let octets = data(length);
            all.extend_from_slice(&octets);
            padded.write_all(&octets).await.unwrap();
            padded.flush().await.unwrap();
        }
        let records = padded.io.0;
        assert_eq!(records[0].len(), 12, "it was not asked for yet");
        for record in &records[1..] {
            assert!(
                record.len() <= RECORD && record.len() % 1024 == 0,
                "{}",
                record.len()
            );
        }
        assert_eq!(said(&records.concat()), all);
    }

    #[tokio::test]
    async fn nothing_stands_within_a_frame() {
        let wanted = Wanted::default();
        wanted.set(Grid::new(128).unwrap());
        let mut padded = Padded::new(Records::default(), Frames::of_server(), wanted);
        let octets = data(100);
        for part in [&octets[..4], &octets[4..50], &octets[50..]] {
            padded.write_all(part).await.unwrap();
            padded.flush().await.unwrap();
        }
        assert_eq!(said(&padded.io.0.concat()), octets);
    }
}
