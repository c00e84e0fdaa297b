//! A connection of which the first octets may have been read already, and the others in large pieces: TLS by itself reads 4 KiB
//! at once, a fourth of a record. While nothing comes, no memory is held.
//!
//! After each large piece its task lets others have their turn: who takes the octets finds them in the processor's cache, and
//! they do not pile up in front of him.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Octets read at once.
const AHEAD: usize = 64 << 10;
/// Octets after which others have their turn: they, and what is made of them, fit in the processor's cache.
const TURN: usize = 128 << 10;

/// Reads what was read, then on.
#[derive(Debug)]
pub struct Begun<I = TcpStream> {
    first: BytesMut,
    /// Octets read in this turn.
    read: usize,
    rest: I,
}

impl<I> Begun<I> {
    /// `first` came before all else.
    pub const fn new(first: BytesMut, rest: I) -> Self {
        Self { first, read: 0, rest }
    }
}

impl<I: AsyncRead + Unpin> Begun<I> {
    /// Until there is something, or the end.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.read >= TURN {
            self.read = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.first.reserve(AHEAD);
        let read = pin!(self.rest.read_buf(&mut self.first)).poll(context);
        if let Poll::Ready(Ok(count @ 1..)) = read {
            self.read += count;
        } else {
            self.read = 0;
            self.first = BytesMut::new();
        }
        ready!(read)?;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            ready!(this.poll_more(context))?;
        }
        let count = this.first.len().min(into.remaining());
        into.put_slice(this.first.get(..count).unwrap_or_default());
        this.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, octets)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, octets)
    }
    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[tokio::test]
    async fn what_was_read_comes_first_and_all_comes() {
        let octets: Vec<u8> = (0..3 * TURN).map(|place| (place % 251) as u8).collect();
        let (first, rest) = octets.split_at(100);
        let mut begun = Begun::new(BytesMut::from(first), rest);
        let mut read = Vec::new();
        begun.read_to_end(&mut read).await.unwrap();
        assert!(read == octets);
    }

    #[test]
    fn others_have_their_turn_between_and_at_the_end_no_memory_is_held() {
        let octets = vec![7; 2 * TURN];
        let mut begun = Begun::new(BytesMut::new(), octets.as_slice());
        let (mut piece, mut context) = (vec![0; AHEAD], Context::from_waker(Waker::noop()));
        let mut turns = vec![0];
        for _ in 0..20 {
            let mut into = ReadBuf::new(&mut piece);
            match Pin::new(&mut begun).poll_read(&mut context, &mut into) {
                Poll::Ready(read) => {
                    read.unwrap();
                    *turns.last_mut().unwrap() += into.filled().len();
                }
                Poll::Pending => turns.push(0),
            }
        }
        assert_eq!(turns, [TURN, TURN, 0]);
        assert_eq!(begun.first.capacity(), 0);
    }
}
