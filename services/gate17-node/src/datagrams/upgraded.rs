//! The same over a connection of HTTP/1.1 that was upgraded (RFC 9298, section 3.2): it carries capsules and nothing else.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use gate17_proto::capsule::Decoder;
use h2::Reason;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::UdpSocket,
    time::timeout,
};

use super::{Activity, Ended, idle, received, sent};
use crate::limits::Client;

/// Octets read at once.
const PIECE: usize = 64 << 10;
/// Of what is read, and of the beginning of a datagram.
const ROOM: usize = 2 * PIECE;
/// For the last word.
const LINGER: Duration = Duration::from_secs(5);

/// Until the client ends it, nothing comes for a while, or the network says that nobody is there: then the connection
/// ends without the word that TLS has for an orderly end.
pub async fn carry<I>(io: I, socket: UdpSocket, port: u16, client: &Client)
where
    I: AsyncRead + AsyncWrite,
{
    let activity = Activity(Instant::now(), AtomicU64::new(0));
    let (reader, mut writer) = split(io);
    let ended = tokio::select! {
        ended = upwards(reader, &socket, &activity, client) => ended,
        ended = downwards(&socket, &mut writer, &activity, client) => ended,
        () = activity.ceased(idle(port)) => Ended::Finished,
    };
    if matches!(ended, Ended::Finished) {
        let _ = timeout(LINGER, writer.shutdown()).await;
    }
}

async fn upwards<I: AsyncRead>(
    mut from: ReadHalf<I>,
    socket: &UdpSocket,
    activity: &Activity,
    client: &Client,
) -> Ended {
    let Some(_room) = client.room(ROOM).await else {
        return Ended::Failed(Reason::INTERNAL_ERROR);
    };
    let (mut decoder, mut octets) = (Decoder::default(), BytesMut::with_capacity(PIECE));
    loop {
        octets.clear();
        match from.read_buf(&mut octets).await {
            Ok(0) => return Ended::Finished,
            Ok(_) => {}
            Err(_) => return Ended::Failed(Reason::CANCEL),
        }
        if let Err(reason) = sent(&octets, &mut decoder, socket, activity).await {
            return Ended::Failed(reason);
        }
    }
}

async fn downwards<I: AsyncWrite>(
    socket: &UdpSocket,
    to: &mut WriteHalf<I>,
    activity: &Activity,
    client: &Client,
) -> Ended {
    loop {
        let (batch, _room) = match received(socket, client).await {
            Ok(received) => received,
            Err(reason) => return Ended::Failed(reason),
        };
        activity.now();
        if to.write_all(&batch).await.is_err() || to.flush().await.is_err() {
            return Ended::Failed(Reason::CANCEL);
        }
    }
}
