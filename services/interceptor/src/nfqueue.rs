//! The kernel's packet queues (nfnetlink_queue): one socket a queue, packets in, verdicts out.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_queue.h`. The published `nfq` crate gives no descriptor, loses packets
//! while it configures, and cannot set the receive buffer; see `docs/decisions/0001-own-nfqueue.md`.
//!
//! Invariant: a queue is configured by one message, before or while packets arrive, and no packet is thrown away by us.

use std::{
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use netlink::{Attributes, Builder, Messages, Socket, flags, queues::Statistics};
use verdict::packet::Hook;

const SUBSYSTEM: u16 = 3 << 8;
const MESSAGE_PACKET: u16 = SUBSYSTEM;
const MESSAGE_VERDICT: u16 = SUBSYSTEM | 1;
const MESSAGE_CONFIG: u16 = SUBSYSTEM | 2;
const MESSAGE_VERDICT_BATCH: u16 = SUBSYSTEM | 3;

/// Attributes of a queued packet, and of a verdict.
mod packet_attribute {
    pub(super) const HEADER: u16 = 1;
    pub(super) const VERDICT: u16 = 2;
    pub(super) const MARK: u16 = 3;
    pub(super) const PAYLOAD: u16 = 10;
    pub(super) const UID: u16 = 16;
}

/// Attributes of a queue's configuration.
mod config_attribute {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const PARAMETERS: u16 = 2;
    pub(super) const MAXIMUM_LENGTH: u16 = 3;
    pub(super) const MASK: u16 = 4;
    pub(super) const FLAGS: u16 = 5;
}

const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_GSO: u32 = 4;
const FLAG_UID_GID: u32 = 8;

/// The packet goes on, with the mark that it is given.
const VERDICT_ACCEPT: u32 = 1;
/// The packet enters the hook anew.
const VERDICT_REPEAT: u32 = 4;

/// How a queue is set up.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// Packets that may wait for a verdict; beyond it the kernel drops and counts.
    pub length: u32,
    /// Octets of the socket's receive buffer: a burst of first packets waits there.
    pub receive_buffer: usize,
    /// Octets of each packet that are handed to us.
    pub copy: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            length: 16_384,
            receive_buffer: 32 << 20,
            copy: 4096,
        }
    }
}

/// A queue's number reads 17, direction, family, worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueNumber(pub u16);

impl QueueNumber {
    /// Outgoing and incoming, IPv4 and IPv6.
    pub const ALL: [Self; 4] = [Self(17040), Self(17060), Self(17140), Self(17160)];

    /// Which chain feeds it.
    pub const fn hook(self) -> Hook {
        if self.0 < 17100 { Hook::Output } else { Hook::Input }
    }
}

impl fmt::Display for QueueNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a queue cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else reads it.
    #[error("queue {queue} is held by {holder}; stop it, two programs cannot decide the same packets")]
    Held {
        /// Which.
        queue: QueueNumber,
        /// As far as the kernel tells.
        holder: String,
    },
    /// A socket that was handed over reads no such queue.
    #[error("the socket that was kept for queue {queue} does not read it")]
    NotHolding {
        /// Which.
        queue: QueueNumber,
    },
    /// No `CAP_NET_ADMIN`.
    #[error("no permission to bind queue {queue}: the capability CAP_NET_ADMIN is missing")]
    Permission {
        /// Which.
        queue: QueueNumber,
    },
    /// Everything else.
    #[error("queue {queue}")]
    Netlink {
        /// Which.
        queue: QueueNumber,
        /// What failed.
        #[source]
        source: netlink::Error,
    },
}

/// A packet that waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Queued<'a> {
    /// Names it within its queue.
    pub id: u32,
    /// Its mark now.
    pub mark: u32,
    /// Owner of the sending socket; only for packets that this host sends.
    pub uid: Option<u32>,
    /// From the IP header on, cut to the queue's copy range.
    pub bytes: &'a [u8],
}

/// One bound queue.
#[derive(Debug)]
pub struct Queue {
    number: QueueNumber,
    socket: Socket,
}

impl Queue {
    /// Opens a socket and binds it to `number`.
    pub fn bind(number: QueueNumber, options: &QueueOptions) -> Result<Self, Error> {
        let failed = |source| Error::Netlink {
            queue: number,
            source,
        };
        let socket = Socket::open(rustix::net::netlink::NETFILTER, 0).map_err(failed)?;
        let queue = Self { number, socket };
        queue.configure(options, true)?;
        Ok(queue)
    }

    /// Takes up the queue that an earlier process of this service bound, so that no packet is lost: those that wait, wait on,
    /// and what that process had read without deciding is queued again. Errors where `fd` is no netfilter socket, or where it
    /// does not hold this queue (any more).
    pub fn adopt(number: QueueNumber, fd: OwnedFd, options: &QueueOptions) -> Result<Self, Error> {
        let failed = |source| Error::Netlink {
            queue: number,
            source,
        };
        let socket = Socket::adopt(fd, rustix::net::netlink::NETFILTER).map_err(failed)?;
        let queue = Self { number, socket };
        queue.check_holder(options)?;
        queue.configure(options, false)?;
        queue.repeat_undecided().map_err(failed)?;
        Ok(queue)
    }

    /// A socket that wants the queue for itself is told whether somebody holds it; the kernel's table tells who, to those
    /// who may read it.
    fn check_holder(&self, options: &QueueOptions) -> Result<(), Error> {
        if Self::bind(self.number, options).is_ok() {
            return Err(Error::NotHolding { queue: self.number });
        }
        let failed = |source| Error::Netlink {
            queue: self.number,
            source,
        };
        let ours = self.socket.port().map_err(failed)?;
        match Statistics::read(self.number.0) {
            Some(statistics) if statistics.port != ours => Err(Error::Held {
                queue: self.number,
                holder: statistics.holder(),
            }),
            _ => Ok(()),
        }
    }

    /// Which queue it is.
    pub const fn number(&self) -> QueueNumber {
        self.number
    }

    /// Everything in one message, so that there is one acknowledgement to wait for. It comes before the first packet on a
    /// fresh socket; on an adopted one it comes among packets, and is awaited as one more datagram by the reader.
    fn configure(&self, options: &QueueOptions, fresh: bool) -> Result<(), Error> {
        let failed = |source| Error::Netlink {
            queue: self.number,
            source,
        };
        self.socket
            .set_receive_buffer(options.receive_buffer)
            .map_err(failed)?;
        self.socket.ignore_overruns().map_err(failed)?;
        let acknowledge = if fresh { flags::ACK } else { 0 };
        let mut message = Builder::new();
        message
            .begin(MESSAGE_CONFIG, flags::REQUEST | acknowledge, 1)
            .octets(&self.header(self.number.0));
        if fresh {
            message.attribute(config_attribute::COMMAND, &[COMMAND_BIND, 0, 0, 0]);
        }
        let [c0, c1, c2, c3] = options.copy.to_be_bytes();
        message.attribute(config_attribute::PARAMETERS, &[c0, c1, c2, c3, COPY_PACKET]);
        message.attribute(config_attribute::MAXIMUM_LENGTH, &options.length.to_be_bytes());
        let wanted = (FLAG_GSO | FLAG_UID_GID).to_be_bytes();
        message
            .attribute(config_attribute::MASK, &wanted)
            .attribute(config_attribute::FLAGS, &wanted)
            .end();
        if !fresh {
            return self.socket.send(message.as_bytes()).map_err(failed);
        }
        let mut buffer = [0; 8192];
        self.socket
            .request("bind", &message, &mut buffer, |_| true)
            .map_err(|source| self.explain(source))
    }

    fn explain(&self, source: netlink::Error) -> Error {
        let queue = self.number;
        match source
            .raw_os_error()
            .map(io::Error::from_raw_os_error)
            .map(|error| error.kind())
        {
            // EPERM is also what the kernel answers where another socket holds the queue
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ResourceBusy) => {
                match Statistics::read(queue.0) {
                    Some(statistics) => Error::Held {
                        queue,
                        holder: statistics.holder(),
                    },
                    None if source.raw_os_error() == Some(libc::EBUSY) => Error::Held {
                        queue,
                        holder: "another program".to_owned(),
                    },
                    None => Error::Permission { queue },
                }
            }
            _ => Error::Netlink { queue, source },
        }
    }

    /// Two batches reach every id, since the kernel compares ids by their signed difference.
    fn repeat_undecided(&self) -> Result<(), netlink::Error> {
        let mut message = Builder::new();
        for highest in [0x7fff_ffff_u32, 0xffff_ffff] {
            message
                .begin(MESSAGE_VERDICT_BATCH, flags::REQUEST, 2)
                .octets(&self.header(self.number.0));
            message
                .attribute(
                    packet_attribute::VERDICT,
                    &verdict_header(VERDICT_REPEAT, highest),
                )
                .end();
        }
        self.socket.send(message.as_bytes())
    }

    /// `struct nfgenmsg`.
    const fn header(&self, queue: u16) -> [u8; 4] {
        let [q0, q1] = queue.to_be_bytes();
        [0, 0, q0, q1]
    }

    /// Reads what waits, one datagram, and hands each packet to `on_packet`. False: nothing waited.
    pub fn read(
        &self,
        buffer: &mut [u8],
        mut on_packet: impl FnMut(Queued<'_>),
    ) -> Result<bool, netlink::Error> {
        let Some(datagram) = self.socket.receive(buffer)? else {
            return Ok(false);
        };
        for message in Messages::new(datagram).filter(|message| message.kind == MESSAGE_PACKET) {
            if let Some(queued) = message
                .split::<4>()
                .and_then(|(_, attributes)| queued(attributes))
            {
                on_packet(queued);
            }
        }
        Ok(true)
    }

    /// Sends the packet on with `mark`; the rules behind the queue do the rest.
    pub fn accept(&self, builder: &mut Builder, id: u32, mark: u32) -> Result<(), netlink::Error> {
        builder.clear();
        builder
            .begin(MESSAGE_VERDICT, flags::REQUEST, 0)
            .octets(&self.header(self.number.0));
        builder.attribute(packet_attribute::VERDICT, &verdict_header(VERDICT_ACCEPT, id));
        builder
            .attribute(packet_attribute::MARK, &mark.to_be_bytes())
            .end();
        self.socket.send(builder.as_bytes())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// `struct nfqnl_msg_verdict_hdr`.
fn verdict_header(verdict: u32, id: u32) -> [u8; 8] {
    let ([v0, v1, v2, v3], [i0, i1, i2, i3]) = (verdict.to_be_bytes(), id.to_be_bytes());
    [v0, v1, v2, v3, i0, i1, i2, i3]
}

fn queued(attributes: Attributes<'_>) -> Option<Queued<'_>> {
    let (mut id, mut mark, mut uid, mut bytes) = (None, 0, None, &[][..]);
    for attribute in attributes {
        match attribute.kind {
            packet_attribute::HEADER => id = attribute.u32_be(),
            packet_attribute::MARK => mark = attribute.u32_be()?,
            packet_attribute::UID => uid = attribute.u32_be(),
            packet_attribute::PAYLOAD => bytes = attribute.payload,
            _ => {}
        }
    }
    Some(Queued {
        id: id?,
        mark,
        uid,
        bytes,
    })
}

#[cfg(test)]
mod tests;
