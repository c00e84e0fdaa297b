//! Conntrack over netlink: which end opened a connection, how one ended, and the mark that keeps it out of the queue.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`. Addresses and ports are those before any translation
//! (the original tuple), which is what the packet path saw.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink::{Builder, Message, Socket, flags};
use verdict::{Direction, Endpoint, Flow};

mod tuple;

pub use tuple::Tuple;

const SUBSYSTEM: u16 = 1 << 8;
const MESSAGE_NEW: u16 = SUBSYSTEM;
const MESSAGE_GET: u16 = SUBSYSTEM | 1;
const MESSAGE_DELETE: u16 = SUBSYSTEM | 2;
/// `NFNLGRP_CONNTRACK_DESTROY` (3), as a bit.
const GROUP_DESTROY: u32 = 1 << 2;

mod attribute {
    pub(super) const ORIGINAL: u16 = 1;
    pub(super) const REPLY: u16 = 2;
    pub(super) const MARK: u16 = 8;
    pub(super) const SENT: u16 = 9;
    pub(super) const RECEIVED: u16 = 10;
    pub(super) const MARK_MASK: u16 = 21;
    pub(super) const PACKETS: u16 = 1;
    pub(super) const BYTES: u16 = 2;
}

/// A connection, as conntrack has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the opener sent it.
    pub original: Tuple,
    /// The connection's mark, on the wire.
    pub mark: u32,
    /// The kernel leads it to a server of this host, for its life.
    pub redirected: bool,
    /// By the opener. Zero where accounting is off.
    pub sent: Counter,
    /// By the other end.
    pub received: Counter,
}

/// A connection, as this host began or took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// With the ends that its opener meant.
    pub flow: Flow,
    /// Where its packets go.
    pub way: Way,
}

/// Where a connection's packets go, for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The kernel does not know it yet.
    New,
    /// Where its opener meant.
    Direct,
    /// To a server of this host: see [`Entry::redirected`].
    Redirected,
}

/// Packets and their octets, headers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

impl Entry {
    fn parse(message: &Message<'_>) -> Option<Self> {
        let (_, attributes) = message.split::<4>()?;
        let counter = |kind| {
            let inner = attributes.find(kind)?.nested();
            let number = |kind| {
                inner
                    .find(kind)
                    .and_then(|attribute| attribute.u64_be())
                    .unwrap_or(0)
            };
            Some(Counter {
                packets: number(attribute::PACKETS),
                bytes: number(attribute::BYTES),
            })
        };
        let original = Tuple::parse(attributes.find(attribute::ORIGINAL)?.nested())?;
        let reply = attributes
            .find(attribute::REPLY)
            .and_then(|reply| Tuple::parse(reply.nested()));
        let redirected = reply
            .is_some_and(|reply| reply.source != original.destination && reply.source.address.is_loopback());
        Some(Self {
            original,
            redirected,
            mark: attributes
                .find(attribute::MARK)
                .and_then(|mark| mark.u32_be())
                .unwrap_or(0),
            sent: counter(attribute::SENT).unwrap_or_default(),
            received: counter(attribute::RECEIVED).unwrap_or_default(),
        })
    }
}

/// Questions and changes: its own socket, never waits for events.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Conntrack {
    /// Needs `CAP_NET_ADMIN`.
    pub fn open() -> Result<Self, netlink::Error> {
        let socket = Socket::open(rustix::net::netlink::NETFILTER, 0)?;
        Ok(Self {
            socket,
            buffer: vec![0; 64 << 10],
        })
    }

    /// The connection that `packet_flow` (seen with either direction) belongs to, where it is established; `None` for one that
    /// begins with this packet.
    pub fn origin(&mut self, packet_flow: &Flow) -> Option<Origin> {
        let towards = |direction| Flow {
            direction,
            ..*packet_flow
        };
        let sent = Tuple::of(&towards(Direction::Outgoing));
        if let Some(entry) = self.get(&sent) {
            let ours = entry.original == sent;
            let direction = if ours {
                Direction::Outgoing
            } else {
                Direction::Incoming
            };
            return Some(Origin {
                flow: towards(direction),
                way: if entry.redirected {
                    Way::Redirected
                } else {
                    Way::Direct
                },
            });
        }
        // from a server of this host to a program that meant another one
        let came = Tuple::of(&towards(Direction::Incoming));
        let entry = self.get(&came).filter(|entry| entry.redirected)?;
        Some(Origin {
            flow: flow_of(&entry.original, Direction::Outgoing),
            way: Way::Redirected,
        })
    }

    /// The kernel answers, be it that it knows no such connection.
    pub fn answers(&mut self) -> bool {
        let nobody = Endpoint::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
        let asked = Tuple::of(&Flow {
            direction: Direction::Outgoing,
            protocol: verdict::Protocol::UDP,
            local: nobody,
            remote: nobody,
        });
        match self.ask(&asked) {
            Ok(_) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }

    /// The connection that such a packet belongs to, in either direction, as its opener began it.
    pub fn original(&mut self, packet: &Tuple) -> Option<Tuple> {
        self.get(packet).map(|entry| entry.original)
    }

    fn get(&mut self, tuple: &Tuple) -> Option<Entry> {
        self.ask(tuple).ok().flatten()
    }

    fn ask(&mut self, tuple: &Tuple) -> Result<Option<Entry>, netlink::Error> {
        let mut request = Builder::new();
        request
            .begin(MESSAGE_GET, flags::REQUEST, 1)
            .octets(&[tuple.family(), 0, 0, 0]);
        tuple.write(&mut request, attribute::ORIGINAL);
        request.end();
        let mut entry = None;
        self.socket
            .request("get connection", &request, &mut self.buffer, |message| {
                entry = Entry::parse(message);
                false
            })?;
        Ok(entry)
    }

    /// Sets the bits of `mask` in the connection's mark to those of `mark`. A connection that is gone is no error.
    pub fn set_mark(&mut self, tuple: &Tuple, mark: u32, mask: u32) -> Result<(), netlink::Error> {
        let mut request = Builder::new();
        request
            .begin(MESSAGE_NEW, flags::REQUEST | flags::ACK, 2)
            .octets(&[tuple.family(), 0, 0, 0]);
        tuple.write(&mut request, attribute::ORIGINAL);
        request.attribute(attribute::MARK, &mark.to_be_bytes());
        request.attribute(attribute::MARK_MASK, &mask.to_be_bytes()).end();
        match self
            .socket
            .request("set connection mark", &request, &mut self.buffer, |_| true)
        {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The kernel forgets this connection, with its translation: its next packet begins it anew. One that is gone is no error.
    pub fn forget(&mut self, tuple: &Tuple) -> Result<(), netlink::Error> {
        let mut request = Builder::new();
        request
            .begin(MESSAGE_DELETE, flags::REQUEST | flags::ACK, 4)
            .octets(&[tuple.family(), 0, 0, 0]);
        tuple.write(&mut request, attribute::ORIGINAL);
        request.end();
        match self
            .socket
            .request("forget connection", &request, &mut self.buffer, |_| true)
        {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Every connection of this network namespace, both families.
    pub fn dump(&mut self, mut on_entry: impl FnMut(Entry)) -> Result<(), netlink::Error> {
        let mut request = Builder::new();
        request
            .begin(MESSAGE_GET, flags::REQUEST | flags::DUMP, 3)
            .octets(&[0, 0, 0, 0])
            .end();
        self.socket
            .request("list connections", &request, &mut self.buffer, |message| {
                if let Some(entry) = Entry::parse(message) {
                    on_entry(entry);
                }
                true
            })
    }
}

/// Ends of connections, as they happen.
#[derive(Debug)]
pub struct Endings {
    socket: Socket,
}

impl Endings {
    /// Needs `CAP_NET_ADMIN`.
    pub fn open(receive_buffer: usize) -> Result<Self, netlink::Error> {
        let socket = Socket::open(rustix::net::netlink::NETFILTER, GROUP_DESTROY)?;
        socket.set_receive_buffer(receive_buffer)?;
        Ok(Self { socket })
    }

    /// Takes up the socket of an earlier process, with the ends that it did not read.
    pub fn adopt(fd: OwnedFd, receive_buffer: usize) -> Result<Self, netlink::Error> {
        let socket = Socket::adopt(fd, rustix::net::netlink::NETFILTER)?;
        socket.set_receive_buffer(receive_buffer)?;
        Ok(Self { socket })
    }

    /// Reads one datagram; false: nothing waited. `ENOBUFS` says that endings were lost.
    pub fn read(&self, buffer: &mut [u8], mut on_end: impl FnMut(Entry)) -> Result<bool, netlink::Error> {
        let Some(datagram) = self.socket.receive(buffer)? else {
            return Ok(false);
        };
        for message in netlink::Messages::new(datagram).filter(|message| message.kind == MESSAGE_DELETE) {
            if let Some(entry) = Entry::parse(&message) {
                on_end(entry);
            }
        }
        Ok(true)
    }
}

impl AsFd for Endings {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Endings {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// The flow of a connection that was opened in `direction`.
pub fn flow_of(tuple: &Tuple, direction: Direction) -> Flow {
    let (local, remote) = match direction {
        Direction::Outgoing => (tuple.source, tuple.destination),
        Direction::Incoming => (tuple.destination, tuple.source),
    };
    let (local, remote) = match tuple.icmp {
        Some((kind, code, identifier)) => (
            Endpoint::new(local.address, identifier),
            Endpoint::new(remote.address, u16::from_be_bytes([kind, code])),
        ),
        None => (local, remote),
    };
    Flow {
        direction,
        protocol: tuple.protocol,
        local,
        remote,
    }
}
