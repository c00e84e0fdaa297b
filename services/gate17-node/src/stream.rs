//! A caller's connection, of which the first octets tell what it speaks.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    net::TcpStream,
};

pub use gate17_maps::begun::Begun;

/// A connection of any kind: where TLS may lie within TLS, its type has an end by this.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Reads more into `first`; None at the end.
///
/// # Errors
/// Of the connection.
pub async fn read_more(first: &mut BytesMut, rest: &mut TcpStream) -> io::Result<Option<usize>> {
    first.reserve(1024);
    let count = rest.read_buf(first).await?;
    Ok((count > 0).then_some(count))
}
