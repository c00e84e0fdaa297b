//! Whether a thread that answers datagrams does: asked through a socket, as everybody asks.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::timeout;

use super::datagram;

/// A query for `localhost`, A, behind its id: answered here whatever the network is like.
const QUERY: &[u8] = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 2;

/// Our end of two sockets that are connected to each other: the kernel lets nobody else send to either.
#[derive(Debug)]
pub(super) struct Probe {
    ours: tokio::net::UdpSocket,
    theirs: UdpSocket,
    id: AtomicU16,
}

/// A probe, and the socket that its thread is to answer on.
///
/// # Errors
/// Where there are no sockets on loopback to be had.
pub(super) fn pair() -> io::Result<(Probe, UdpSocket)> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    let (ours, theirs) = (UdpSocket::bind(any)?, UdpSocket::bind(any)?);
    ours.connect(theirs.local_addr()?)?;
    theirs.connect(ours.local_addr()?)?;
    datagram::prepare(&theirs)?;
    ours.set_nonblocking(true)?;
    let probe = Probe {
        ours: tokio::net::UdpSocket::from_std(ours)?,
        theirs: theirs.try_clone()?,
        id: AtomicU16::new(rand::random()),
    };
    Ok((probe, theirs))
}

impl Probe {
    /// False where the thread leaves a question unread. One that was lost on its way proves nothing: while the firewall lets
    /// nothing through, ending this service would help nobody.
    pub(super) async fn is_answered(&self) -> bool {
        for _ in 0..ATTEMPTS {
            let id = self.id.fetch_add(1, Relaxed);
            if let Ok(true) = timeout(PATIENCE, self.ask(id)).await {
                return true;
            }
        }
        rustix::io::ioctl_fionread(&self.theirs).is_ok_and(|unread| unread == 0)
    }

    async fn ask(&self, id: u16) -> bool {
        let id = id.to_be_bytes();
        if self.ours.send(&[&id, QUERY].concat()).await.is_err() {
            return false;
        }
        let mut answer = [0; 512];
        loop {
            match self.ours.recv(&mut answer).await {
                // with this id, a response, and without an error
                Ok(length) if length > QUERY.len() && answer.starts_with(&id) => {
                    let [_, _, high, low, ..] = answer;
                    return high & 0x80 != 0 && low & 0x0f == 0;
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }
}
