//! Takes callers in, on whatever port: by their first octets it is known what they speak.

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use gate17_proto::opening::{Opening, classify};
use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_user_timeout};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};

use tokio_util::sync::CancellationToken;

use crate::{
    access::Caller,
    limits::{Client, Held, Kind},
    node::{Current, Node},
    proof,
    stream::{Begun, Io, read_more},
    tunnel, web,
    web::Way,
};

const QUOTES: u16 = 17;
const TLS: u16 = 443;
/// First octets: of a record of TLS, and of greetings older than TLS.
const HANDSHAKE: u8 = 0x16;
const OLD: u8 = 0x80;
/// A caller on port 17 that says nothing wants a quote.
const SILENCE: Duration = Duration::from_secs(1);
/// Without descriptors, none is to be had at once.
const LATER: Duration = Duration::from_millis(50);
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Milliseconds without any acknowledgement of what was sent.
const GONE: u32 = 120_000;

/// Takes callers in, until `closed`: who comes then waits in the socket for the next process.
pub async fn attend(listener: TcpListener, current: Current, closed: CancellationToken) {
    loop {
        let came = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            came = listener.accept() => came,
        };
        match came {
            Ok((stream, peer)) => receive(stream, peer, &current.get()),
            Err(error) => {
                tracing::debug!(%error, "no caller can be taken in");
                sleep(LATER).await;
            }
        }
    }
}

fn receive(stream: TcpStream, peer: SocketAddr, node: &Arc<Node>) {
    let client = match node.known.is_node(peer.ip()) {
        true => node.limits.node(peer.ip()),
        false => node.limits.client(peer.ip()),
    };
    let Some(connection) = client.take(Kind::Connection) else {
        return node.status.counter("callers_refused").add(1);
    };
    let Some(handshake) = client.take(Kind::Handshake) else {
        return node.status.counter("callers_refused").add(1);
    };
    node.status.counter("callers").add(1);
    let node = Arc::clone(node);
    tokio::spawn(async move {
        let _connection = connection;
        meet(stream, node, client, handshake).await;
    });
}

async fn meet(mut stream: TcpStream, node: Arc<Node>, client: Arc<Client>, handshake: Held) {
    let port = stream.local_addr().map_or(0, |local| local.port());
    let _ = stream.set_nodelay(true);
    let _ = set_socket_keepalive(&stream, true);
    let _ = set_tcp_keepidle(&stream, KEEPALIVE);
    let _ = set_tcp_user_timeout(&stream, GONE);
    let mut first = BytesMut::new();
    if port == TLS {
        return as_elsewhere(stream, first, node, client, handshake).await;
    }
    let patience = if port == QUOTES {
        SILENCE
    } else {
        node.handshake_time()
    };
    let spoken = listen_to(&mut stream, &mut first, Instant::now() + patience).await;
    match spoken {
        Opening::Tls => secure(Begun::new(first, stream), node, client, handshake).await,
        Opening::Other | Opening::NeedMore if port == QUOTES => quote(&mut stream, &node).await,
        Opening::Http1 | Opening::Http2Prior | Opening::Other => {
            web::serve(
                Begun::new(first, stream),
                node,
                client,
                handshake,
                Arc::default(),
                Way::Clear,
            )
            .await;
        }
        Opening::NeedMore => {}
    }
}

/// The port of TLS is what it is everywhere: its first octet says whether somebody is mistaken.
async fn as_elsewhere(
    mut stream: TcpStream,
    mut first: BytesMut,
    node: Arc<Node>,
    client: Arc<Client>,
    handshake: Held,
) {
    let begun = timeout(node.handshake_time(), read_more(&mut first, &mut stream)).await;
    let Ok(Ok(Some(_))) = begun else {
        return;
    };
    let is_tls = first
        .first()
        .is_some_and(|octet| *octet == HANDSHAKE || *octet >= OLD);
    let stream = Begun::new(first, stream);
    if is_tls {
        secure(stream, node, client, handshake).await;
    } else {
        web::serve(stream, node, client, handshake, Arc::default(), Way::Mistaken).await;
    }
}

/// Until it is clear, or time is up.
async fn listen_to(stream: &mut TcpStream, first: &mut BytesMut, until: Instant) -> Opening {
    loop {
        match classify(first, false) {
            Opening::NeedMore => match timeout_at(until, read_more(first, stream)).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) | Err(_) => return Opening::NeedMore,
            },
            clear => return clear,
        }
    }
}

async fn quote(stream: &mut TcpStream, node: &Node) {
    node.status.counter("quotes").add(1);
    let said = async {
        stream.write_all(&node.quotes.pick(rand::random())).await?;
        stream.shutdown().await?;
        // what the caller still says must not turn the end into a reset
        let mut rest = BytesMut::new();
        while read_more(&mut rest, stream).await?.is_some() {
            rest.clear();
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(SILENCE, said).await;
}

/// TLS, and what is spoken within.
pub fn secure<I>(
    io: I,
    node: Arc<Node>,
    client: Arc<Client>,
    handshake: Held,
) -> Pin<Box<dyn Future<Output = ()> + Send>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    Box::pin(async move {
        let Ok(Ok(stream)) = timeout(node.handshake_time(), node.acceptor().accept(io)).await else {
            node.status.counter("handshakes_failed").add(1);
            return;
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let (stream, exporter) = proof::share(stream);
        let caller = Arc::new(Caller::new(exporter));
        if is_h2 {
            tunnel::serve(stream, node, client, handshake, caller).await;
        } else {
            let stream: Box<dyn Io> = Box::new(stream);
            web::serve(stream, node, client, handshake, caller, Way::Secure).await;
        }
    })
}
