//! A connection of which the first octets have been read already.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Reads what was read, then on.
#[derive(Debug)]
pub struct Begun {
    first: BytesMut,
    rest: TcpStream,
}

impl Begun {
    /// `first` came before all else.
    pub const fn new(first: BytesMut, rest: TcpStream) -> Self {
        Self { first, rest }
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_read(context, into);
        }
        let count = self.first.len().min(into.remaining());
        into.put_slice(&self.first.split_to(count));
        if self.first.is_empty() {
            self.first = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
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
    use tokio::io::AsyncReadExt as _;
    first.reserve(1024);
    let count = rest.read_buf(first).await?;
    Ok((count > 0).then_some(count))
}
