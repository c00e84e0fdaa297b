//! A connection of which the first octets have been read already, and the others in large pieces: TLS by itself reads 4 KiB
//! at once, a fourth of a record. While nothing comes, no memory is held.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Octets read at once.
const AHEAD: usize = 128 << 10;

/// A connection of any kind: where TLS may lie within TLS, its type has an end by this.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Reads what was read, then on.
#[derive(Debug)]
pub struct Begun<I = TcpStream> {
    first: BytesMut,
    rest: I,
}

impl<I> Begun<I> {
    /// `first` came before all else.
    pub const fn new(first: BytesMut, rest: I) -> Self {
        Self { first, rest }
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
            this.first.reserve(AHEAD);
            let read = pin!(this.rest.read_buf(&mut this.first)).poll(context);
            if !matches!(read, Poll::Ready(Ok(1..))) {
                this.first = BytesMut::new();
                return read.map_ok(drop);
            }
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
        true
    }
}

/// Reads more into `first`; None at the end.
///
/// # Errors
/// Of the connection.
pub async fn read_more(first: &mut BytesMut, rest: &mut TcpStream) -> io::Result<Option<usize>> {
    first.reserve(1024);
    let count = rest.read_buf(first).await?;
    Ok((count > 0).then_some(count))
}
