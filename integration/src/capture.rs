//! What is on the wire: every packet that passes the devices of a namespace.

use std::{
    net::IpAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use crate::Namespace;

/// `ETH_P_ALL` of `linux/if_ether.h`.
const EVERYTHING: u16 = 3;

/// A packet, from its IP header on.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Sender.
    pub from: IpAddr,
    /// Receiver.
    pub to: IpAddr,
    /// IANA number; of IPv6 the first header.
    pub protocol: u8,
    /// The packet.
    pub bytes: Vec<u8>,
}

/// Captures until it is dropped.
#[derive(Debug)]
pub struct Capture {
    packets: Arc<Mutex<Vec<Captured>>>,
    ends: Arc<AtomicBool>,
}

impl Namespace {
    /// Captures all IP packets of this namespace's devices from now on, both ways.
    ///
    /// # Panics
    /// If the socket cannot be made.
    pub fn capture(&self) -> Capture {
        let socket = self.enter(open);
        let packets: Arc<Mutex<Vec<Captured>>> = Arc::default();
        let ends = Arc::new(AtomicBool::new(false));
        let (writes, over) = (Arc::clone(&packets), Arc::clone(&ends));
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                // a timeout is a look whether it is over
                if let Ok((length, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty())
                    && let Some(packet) = buffer.get(..length).and_then(parse)
                {
                    lock(&writes).push(packet);
                }
            }
        });
        Capture { packets, ends }
    }
}

impl Capture {
    /// Packets so far that `wanted` accepts.
    pub fn seen(&self, wanted: impl Fn(&Captured) -> bool) -> Vec<Captured> {
        lock(&self.packets)
            .iter()
            .filter(|packet| wanted(packet))
            .cloned()
            .collect()
    }

    /// Packets so far to or from these.
    pub fn with(&self, addresses: &[IpAddr]) -> Vec<Captured> {
        self.seen(|packet| addresses.contains(&packet.from) || addresses.contains(&packet.to))
    }

    /// Forgets what was seen so far.
    pub fn clear(&self) {
        lock(&self.packets).clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn open() -> OwnedFd {
    let protocol = std::num::NonZeroU32::new(u32::from(EVERYTHING.to_be())).expect("it is not zero");
    let socket = socket_with(
        AddressFamily::PACKET,
        // without the link's header
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(Protocol::from_raw(protocol)),
    )
    .expect("open a packet socket");
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100))).expect("set a timeout");
    socket
}

fn parse(bytes: &[u8]) -> Option<Captured> {
    let (from, to, protocol) = match bytes.first()? >> 4 {
        4 => {
            let from = *bytes.get(12..)?.first_chunk::<4>()?;
            let to = *bytes.get(16..)?.first_chunk::<4>()?;
            (IpAddr::from(from), IpAddr::from(to), *bytes.get(9)?)
        }
        6 => {
            let from = *bytes.get(8..)?.first_chunk::<16>()?;
            let to = *bytes.get(24..)?.first_chunk::<16>()?;
            (IpAddr::from(from), IpAddr::from(to), *bytes.get(6)?)
        }
        _ => return None,
    };
    Some(Captured {
        from,
        to,
        protocol,
        bytes: bytes.to_vec(),
    })
}

fn lock(packets: &Mutex<Vec<Captured>>) -> MutexGuard<'_, Vec<Captured>> {
    packets.lock().unwrap_or_else(PoisonError::into_inner)
}
