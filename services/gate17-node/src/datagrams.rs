//! Carries datagrams in capsules (RFC 9298): one stream, one connected socket. What the socket cannot take yet waits in the
//! stream's window; what the client does not read waits in the kernel's buffer, and is lost there.

use std::{
    io,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use gate17_proto::capsule::{self, Decoder};
use h2::{Reason, RecvStream, SendStream};
use tokio::{io::Interest, net::UdpSocket, time::sleep};

use crate::{
    limits::{Client, Room},
    relay::{self, Segment},
};

pub mod upgraded;

/// Octets of datagrams handed on at once.
const BATCH: usize = 128 << 10;
const LONGEST: usize = 65_535;
const IDLE: Duration = Duration::from_secs(60);
/// QUIC keeps connections for longer.
const IDLE_QUIC: Duration = Duration::from_secs(120);
const QUIC: u16 = 443;

/// Why it ended.
enum Ended {
    Finished,
    Failed(Reason),
}

/// Milliseconds since the beginning at which something last came.
struct Activity(Instant, AtomicU64);

impl Activity {
    fn now(&self) {
        self.1.store(self.elapsed(), Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn ceased(&self, idle: Duration) {
        loop {
            let quiet = Duration::from_millis(self.elapsed().saturating_sub(self.1.load(Ordering::Relaxed)));
            match idle.checked_sub(quiet) {
                Some(left) if !left.is_zero() => sleep(left).await,
                _ => return,
            }
        }
    }
}

const fn idle(port: u16) -> Duration {
    if port == QUIC { IDLE_QUIC } else { IDLE }
}

/// Until the client ends it, nothing comes for a while, or the network says that nobody is there.
pub async fn carry(
    body: RecvStream,
    mut outgoing: SendStream<Segment>,
    socket: UdpSocket,
    port: u16,
    client: &Client,
) {
    let activity = Activity(Instant::now(), AtomicU64::new(0));
    let ended = tokio::select! {
        ended = upwards(body, &socket, &activity) => ended,
        ended = downwards(&socket, &mut outgoing, &activity, client) => ended,
        () = activity.ceased(idle(port)) => Ended::Finished,
    };
    match ended {
        Ended::Finished => {
            let _ = outgoing.send_data(Segment::default(), true);
        }
        Ended::Failed(reason) => outgoing.send_reset(reason),
    }
}

async fn upwards(mut body: RecvStream, socket: &UdpSocket, activity: &Activity) -> Ended {
    let mut decoder = Decoder::default();
    while let Some(octets) = body.data().await {
        let Ok(octets) = octets else {
            return Ended::Failed(Reason::CANCEL);
        };
        if let Err(reason) = sent(&octets, &mut decoder, socket, activity).await {
            return Ended::Failed(reason);
        }
        if body.flow_control().release_capacity(octets.len()).is_err() {
            return Ended::Failed(Reason::CANCEL);
        }
    }
    Ended::Finished
}

/// The datagrams that are whole with these octets.
async fn sent(
    octets: &[u8],
    decoder: &mut Decoder,
    socket: &UdpSocket,
    activity: &Activity,
) -> Result<(), Reason> {
    decoder.feed(octets);
    loop {
        match decoder.next() {
            Ok(Some(payload)) => {
                activity.now();
                if socket.send(&payload).await.is_err_and(|error| is_final(&error)) {
                    return Err(Reason::CONNECT_ERROR);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => return Err(Reason::PROTOCOL_ERROR),
        }
    }
}

async fn downwards(
    socket: &UdpSocket,
    outgoing: &mut SendStream<Segment>,
    activity: &Activity,
    client: &Client,
) -> Ended {
    loop {
        let (batch, room) = match received(socket, client).await {
            Ok(received) => received,
            Err(reason) => return Ended::Failed(reason),
        };
        activity.now();
        if relay::send(outgoing, batch, Arc::new(room)).await.is_err() {
            return Ended::Failed(Reason::CANCEL);
        }
    }
}

/// Capsules with what came, and the room that they take; waits for the first.
async fn received(socket: &UdpSocket, client: &Client) -> Result<(Bytes, Room), Reason> {
    loop {
        // what ICMP says makes a socket not readable, but erroneous
        let Ok(ready) = socket.ready(Interest::READABLE | Interest::ERROR).await else {
            return Err(Reason::CONNECT_ERROR);
        };
        if ready.is_error() {
            if let Ok(Some(error)) = socket.take_error()
                && is_final(&error)
            {
                return Err(Reason::CONNECT_ERROR);
            }
            // taken note of, until the next
            let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        let Some(room) = client.room(BATCH + 2 * LONGEST).await else {
            return Err(Reason::INTERNAL_ERROR);
        };
        let mut batch = BytesMut::new();
        let mut datagram = vec![0; LONGEST];
        while batch.len() < BATCH {
            match socket.try_recv(&mut datagram) {
                Ok(count) => {
                    capsule::encode(datagram.get(..count).unwrap_or_default(), &mut batch);
                }
                Err(error) if is_final(&error) => return Err(Reason::CONNECT_ERROR),
                Err(_) => break,
            }
        }
        if !batch.is_empty() {
            return Ok((batch.freeze(), room));
        }
    }
}

/// What the network says by ICMP; all else is a datagram lost.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused | Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_too_long_for_the_path_is_lost_and_no_more() {
        use rustix::io::Errno;
        for (errno, last) in [
            (Errno::MSGSIZE, false),
            (Errno::AGAIN, false),
            (Errno::CONNREFUSED, true),
        ] {
            assert_eq!(is_final(&io::Error::from(errno)), last, "{errno}");
        }
    }
}
