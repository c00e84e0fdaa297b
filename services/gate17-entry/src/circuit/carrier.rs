//! What a node is spoken to over: octets, an upgrade of them where it wants one, TLS.

use std::{io, net::SocketAddr, sync::Arc};

use gate17_proto::map::{Carrier, Node};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::pinned;

/// Octets of an answer to an upgrade.
const HEAD: usize = 4096;
/// Octets that TLS encrypts at once: whole frames of HTTP/2 that are made of what programs say, so that no record is cut short.
const RECORDS: usize = 128 << 10;

/// What TLS goes over: a connection, or a stream through other nodes.
pub(super) trait Octets: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Octets for T {}

/// A node has shown its key there.
pub(super) type Secured = TlsStream<Box<dyn Octets>>;

/// A connection of our own.
pub(super) async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for TLS on a connection in the clear, where the node wants that (RFC 2817).
pub(super) async fn upgraded(mut stream: Box<dyn Octets>, carrier: Carrier) -> io::Result<Box<dyn Octets>> {
    if carrier == Carrier::Tls {
        return Ok(stream);
    }
    let garbled = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    stream
        .write_all(
            b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nUpgrade: TLS/1.3\r\nConnection: Upgrade\r\n\r\n",
        )
        .await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD {
            return Err(garbled("it does not change to TLS: its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(garbled("it does not change to TLS"));
    }
    Ok(stream)
}

/// TLS with a node, known by its keys.
pub(super) async fn tls(stream: Box<dyn Octets>, node: &Node) -> io::Result<Secured> {
    let host = if node.name.is_empty() {
        "localhost"
    } else {
        &node.name
    };
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = pinned::config(node.keys.clone(), !node.name.is_empty()).map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.get_mut().1.set_buffer_limit(Some(RECORDS));
    Ok(stream)
}
