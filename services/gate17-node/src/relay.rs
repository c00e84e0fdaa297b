//! Carries octets between a stream of HTTP/2 and a connection. What has not been written on is not read any more: each
//! side's window opens only when its octets are gone.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use rustix::net::sockopt::set_socket_linger;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::limits::{Client, Owed, Room, Strain};

/// Octets of a stream, with the room that they take until they are sent.
#[derive(Debug, Default)]
pub struct Segment {
    octets: Bytes,
    _room: Option<Arc<Room>>,
}

impl Segment {
    /// Octets that are counted nowhere: short pages.
    pub const fn free(octets: Bytes) -> Self {
        Self { octets, _room: None }
    }

    /// Octets that take room.
    pub const fn held(octets: Bytes, room: Arc<Room>) -> Self {
        Self {
            octets,
            _room: Some(room),
        }
    }
}

impl Buf for Segment {
    fn remaining(&self) -> usize {
        self.octets.remaining()
    }
    fn chunk(&self) -> &[u8] {
        self.octets.chunk()
    }
    fn advance(&mut self, count: usize) {
        self.octets.advance(count);
    }
    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.octets.copy_to_bytes(count)
    }
}

/// Octets read at once: as a frame of HTTP/2, with its head, they fill whole records of TLS.
pub const CHUNK: usize = 4 * 16_384 - 9;
/// A destination that does not read is looked at so often.
const LOOK: Duration = Duration::from_millis(100);
/// It gets nowhere.
const STUCK: Duration = Duration::from_secs(5);
/// What may wait whatever there is.
const SMALL: usize = 64 << 10;

/// How one direction ended.
enum Ended {
    /// In order.
    Finished,
    /// The client gave the stream up.
    Cancelled,
    /// The connection broke.
    Broken,
}

/// Until both directions have ended; where one breaks, the other is torn down too.
pub async fn carry(
    incoming: RecvStream,
    mut outgoing: SendStream<Segment>,
    connection: TcpStream,
    client: &Client,
) {
    let (reader, writer) = connection.into_split();
    let (ended, writer) = {
        let mut up = std::pin::pin!(upwards(incoming, writer, client));
        let mut down = std::pin::pin!(downwards(&reader, &mut outgoing, client));
        let (mut up_done, mut down_done) = (None, false);
        loop {
            tokio::select! {
                (ended, writer) = &mut up, if up_done.is_none() => match ended {
                    Ended::Finished => up_done = Some(writer),
                    other => break (other, Some(writer)),
                },
                ended = &mut down, if !down_done => match ended {
                    Ended::Finished => down_done = true,
                    other => break (other, up_done),
                },
            }
            if down_done && up_done.is_some() {
                break (Ended::Finished, up_done);
            }
        }
    };
    match ended {
        Ended::Finished => return,
        // RFC 9113, section 8.5: a reset for a reset, both ways
        Ended::Cancelled => outgoing.send_reset(Reason::CANCEL),
        Ended::Broken => outgoing.send_reset(Reason::CONNECT_ERROR),
    }
    let _ = set_socket_linger(reader.as_ref(), Some(Duration::ZERO));
    if let Some(writer) = writer {
        writer.forget();
    }
}

async fn upwards(mut from: RecvStream, mut to: OwnedWriteHalf, client: &Client) -> (Ended, OwnedWriteHalf) {
    let mut owed = client.owes();
    while let Some(octets) = from.data().await {
        let Ok(octets) = octets else {
            return (Ended::Cancelled, to);
        };
        let count = octets.len();
        if !hand_on(octets, &mut from, &mut to, &mut owed).await {
            return (Ended::Broken, to);
        }
        if from.flow_control().release_capacity(count).is_err() {
            return (Ended::Cancelled, to);
        }
    }
    drop(owed);
    // a reset may look like an end: trailers tell
    match from.trailers().await {
        Ok(_) if to.shutdown().await.is_ok() => (Ended::Finished, to),
        Ok(_) => (Ended::Broken, to),
        Err(_) => (Ended::Cancelled, to),
    }
}

/// All of it; not, where the connection breaks, or where what waits is more than its client's network may leave here.
async fn hand_on(
    mut octets: Bytes,
    from: &mut RecvStream,
    to: &mut OwnedWriteHalf,
    owed: &mut Owed<'_>,
) -> bool {
    let mut moved = Instant::now();
    while octets.has_remaining() {
        match timeout(LOOK, to.write_buf(&mut octets)).await {
            Ok(Ok(1..)) => moved = Instant::now(),
            Ok(_) => return false,
            Err(_) => {
                let waits = from.flow_control().used_capacity();
                owed.set(waits);
                let has_to_go = match owed.strain() {
                    Strain::Fair => false,
                    Strain::High => moved.elapsed() > STUCK,
                    Strain::Extreme => waits > SMALL,
                };
                if has_to_go {
                    return false;
                }
            }
        }
    }
    owed.set(0);
    true
}

async fn downwards(from: &OwnedReadHalf, to: &mut SendStream<Segment>, client: &Client) -> Ended {
    let mut buffer = BytesMut::new();
    loop {
        // an idle stream holds no memory: it is taken when there is something to read
        let readable = tokio::select! {
            readable = from.readable() => readable,
            _ = poll_fn(|context| to.poll_reset(context)) => return Ended::Cancelled,
        };
        if readable.is_err() {
            return Ended::Broken;
        }
        let room = tokio::select! {
            room = client.room(CHUNK) => room,
            _ = poll_fn(|context| to.poll_reset(context)) => return Ended::Cancelled,
        };
        let Some(room) = room else {
            return Ended::Broken;
        };
        buffer.reserve(CHUNK);
        match from.try_read_buf(&mut (&mut buffer).limit(CHUNK)) {
            Ok(0) => {
                return match to.send_data(Segment::default(), true) {
                    Ok(()) => Ended::Finished,
                    Err(_) => Ended::Cancelled,
                };
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                buffer = BytesMut::new();
                continue;
            }
            Err(_) => return Ended::Broken,
        }
        if send(to, buffer.split().freeze(), Arc::new(room)).await.is_err() {
            return Ended::Cancelled;
        }
    }
}

/// As the client's window lets it; returns when all is handed on.
///
/// # Errors
/// Where the stream is over.
pub async fn send(to: &mut SendStream<Segment>, octets: Bytes, room: Arc<Room>) -> Result<(), h2::Error> {
    send_last(to, octets, room, false).await
}

/// As [`send`]; `is_last`: and with that, the stream ends.
///
/// # Errors
/// Where the stream is over.
pub async fn send_last(
    to: &mut SendStream<Segment>,
    mut octets: Bytes,
    room: Arc<Room>,
    is_last: bool,
) -> Result<(), h2::Error> {
    while !octets.is_empty() {
        to.reserve_capacity(octets.len());
        let capacity = loop {
            // a reset ends this wait as well
            let granted = poll_fn(|context| to.poll_capacity(context)).await;
            match granted {
                Some(Ok(0)) => {}
                Some(Ok(capacity)) => break capacity,
                Some(Err(error)) => return Err(error),
                None => return Err(Reason::STREAM_CLOSED.into()),
            }
        };
        let part = octets.split_to(capacity.min(octets.len()));
        let ends = is_last && octets.is_empty();
        to.send_data(Segment::held(part, Arc::clone(&room)), ends)?;
    }
    Ok(())
}
