//! Answers, many in one system call; and those of one length to one client as one packet on its way through the kernel.
//!
//! The way of an answer over loopback, through the firewall's own rules and connection tracking, costs more than all that is done
//! to find it. `UDP_SEGMENT` (udp(7), Linux 4.18) hands the kernel many datagrams of one length, the last of which may be shorter;
//! they become single ones in front of the client's socket. Where the kernel will not, each goes by itself.

use std::{
    io,
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{CONTROL, CONTROL_HEAD, WORD, Way, empty_head};

/// Datagrams in one packet (`UDP_MAX_SEGMENTS` of kernels before 6.9).
const MOST: usize = 64;
/// Octets in one packet, below what a length field of 16 bits takes with all heads.
const LONGEST: usize = 65_000;
/// `CMSG_SPACE` of a 16-bit word.
const SEGMENT_SPACE: usize = CONTROL_HEAD + WORD;

/// The kernel has taken none as one packet.
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// An answer to be sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Outgoing<'a> {
    pub(in crate::server) message: &'a [u8],
    pub(in crate::server) way: &'a Way,
}

/// Room for what is sent at once; nothing is allocated once it has grown.
#[derive(Default)]
pub(in crate::server) struct Sender {
    /// Places of answers, those that may go together beside each other.
    order: Vec<(u64, usize)>,
    pieces: Vec<libc::iovec>,
    ways: Vec<Way>,
    packets: Vec<Packet>,
    heads: Vec<libc::mmsghdr>,
}

/// Answers that go as one packet, by their places in [`Sender::pieces`].
#[derive(Debug, Clone, Copy)]
struct Packet {
    first: usize,
    count: usize,
    /// Of each but the last.
    length: usize,
    octets: usize,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends the answers that there are among `count` places, without waiting, in whatever order; those that cannot be sent are
    /// left. How many were sent.
    pub(in crate::server) fn send<'a>(
        &mut self,
        socket: &impl AsRawFd,
        count: usize,
        answer: impl Fn(usize) -> Option<Outgoing<'a>>,
    ) -> usize {
        self.put_in_order(count, &answer);
        self.gather(&answer, !IS_REFUSED.load(Relaxed));
        self.point();
        let (mut sent, mut next) = (0, 0);
        while let Some(packet) = self.packets.get(next).copied() {
            let error = match self.submit(socket, next) {
                Ok(done) => {
                    let taken = self.packets.get(next..next + done).unwrap_or_default();
                    sent += taken.iter().map(|packet| packet.count).sum::<usize>();
                    next += done;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            // the first of the rest cannot be sent: others may, or its parts
            if packet.count > 1 {
                if is_unknown(&error) {
                    IS_REFUSED.store(true, Relaxed);
                }
                sent += self.one_by_one(socket, next, packet);
            }
            next += 1;
        }
        sent
    }

    /// Those to one client beside each other, the longest first.
    fn put_in_order<'a>(&mut self, count: usize, answer: &impl Fn(usize) -> Option<Outgoing<'a>>) {
        self.order.clear();
        let key = |answer: &Outgoing<'_>| {
            let length = u16::try_from(answer.message.len()).unwrap_or(u16::MAX);
            answer.way.mixed() << 16 | u64::from(u16::MAX - length)
        };
        let keyed = (0..count).filter_map(|at| Some((key(&answer(at)?), at)));
        self.order.extend(keyed);
        self.order.sort_unstable();
    }

    /// Fills pieces, ways and packets.
    fn gather<'a>(&mut self, answer: &impl Fn(usize) -> Option<Outgoing<'a>>, together: bool) {
        self.pieces.clear();
        self.ways.clear();
        self.packets.clear();
        for (_, at) in &self.order {
            let Some(Outgoing { message, way }) = answer(*at) else {
                continue;
            };
            let length = message.len();
            match self.packets.last_mut().zip(self.ways.last()) {
                Some((packet, last)) if together && packet.takes(length) && last.may_go_with(way) => {
                    packet.count += 1;
                    packet.octets += length;
                }
                _ => {
                    self.packets.push(Packet {
                        first: self.pieces.len(),
                        count: 1,
                        length,
                        octets: length,
                    });
                    self.ways.push(*way);
                }
            }
            self.pieces.push(piece(message));
        }
    }

    /// Lets heads point at what was gathered.
    fn point(&mut self) {
        self.heads.clear();
        for (packet, way) in self.packets.iter().zip(&mut self.ways) {
            way.turn_round();
            if packet.count > 1 {
                way.segment(packet.length);
            }
            let Some(piece) = self.pieces.get_mut(packet.first) else {
                continue;
            };
            self.heads.push(head(way, piece, packet.count));
        }
    }

    /// Sends packets from `next` on; gives how many, at least one.
    #[expect(
        unsafe_code,
        reason = "sendmmsg with control messages has no safe wrapper in rustix"
    )]
    fn submit(&mut self, socket: &impl AsRawFd, next: usize) -> io::Result<usize> {
        let rest = self.heads.get_mut(next..).unwrap_or_default();
        // SAFETY: each head of `rest` points at messages, one address and one control area of the sizes said, which live through
        // the call and are only read by it.
        let done = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        match usize::try_from(done) {
            Ok(done) if done > 0 => Ok(done),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn one_by_one(&mut self, socket: &impl AsRawFd, at: usize, packet: Packet) -> usize {
        let pieces = self.pieces.get_mut(packet.first..packet.first + packet.count);
        let (Some(pieces), Some(way)) = (pieces, self.ways.get_mut(at)) else {
            return 0;
        };
        way.forget_segment();
        let mut sent = 0;
        for piece in pieces {
            sent += usize::from(submit_one(socket, way, piece));
        }
        sent
    }
}

/// Sends one answer, without waiting. Whether it was sent.
pub(in crate::server) fn send_one(socket: &impl AsRawFd, answer: Outgoing<'_>) -> bool {
    let mut way = *answer.way;
    way.turn_round();
    let mut piece = piece(answer.message);
    submit_one(socket, &mut way, &mut piece)
}

#[expect(
    unsafe_code,
    reason = "sendmsg with control messages has no safe wrapper in rustix"
)]
fn submit_one(socket: &impl AsRawFd, way: &mut Way, piece: &mut libc::iovec) -> bool {
    let head = head(way, piece, 1).msg_hdr;
    loop {
        // SAFETY: the head points at one message, one address and one control area of the sizes said, which live through the call
        // and are only read by it.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const head, libc::MSG_DONTWAIT) };
        if sent >= 0 {
            return true;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return false;
        }
    }
}

fn piece(message: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: message.as_ptr().cast_mut().cast(),
        iov_len: message.len(),
    }
}

/// `piece`: the first of `count` that lie beside each other.
fn head(way: &mut Way, piece: &mut libc::iovec, count: usize) -> libc::mmsghdr {
    let mut head = empty_head();
    head.msg_hdr.msg_iov = piece;
    head.msg_hdr.msg_iovlen = count as _;
    head.msg_hdr.msg_name = way.peer.as_mut_ptr().cast();
    head.msg_hdr.msg_namelen = way.peer_length;
    head.msg_hdr.msg_control = way.control.as_mut_ptr().cast();
    head.msg_hdr.msg_controllen = way.control_length as _;
    head
}

/// A kernel that does not know of it, or a device that cannot.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
    )
}

impl Packet {
    /// Whether one of this length may go with it, as its last or not.
    const fn takes(&self, length: usize) -> bool {
        let all_alike = self.octets == self.length * self.count;
        all_alike
            && length <= self.length
            && length > 0
            && self.count < MOST
            && self.octets + length <= LONGEST
    }
}

impl Way {
    /// A number that is the same for the same client.
    fn mixed(&self) -> u64 {
        let words = self.peer.as_chunks::<4>().0.iter();
        let mixed = words.fold(0_u64, |sum, word| {
            (sum ^ u64::from(u32::from_ne_bytes(*word)))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        });
        mixed >> 16
    }

    /// The same client, and the same address of ours; and there is room to say so.
    fn may_go_with(&self, other: &Self) -> bool {
        let all = |way: &Self| (way.peer_length, way.peer, way.control_length, way.control);
        self.control_length + SEGMENT_SPACE <= CONTROL && all(self) == all(other)
    }

    /// Adds the length of each datagram of a packet, where there is room for it.
    fn segment(&mut self, length: usize) {
        let space = self
            .control
            .get_mut(self.control_length..self.control_length + SEGMENT_SPACE);
        let (Some(space), Ok(length)) = (space, u16::try_from(length)) else {
            return;
        };
        // struct cmsghdr: its length, level, type; then the word
        let whole = (CONTROL_HEAD + size_of::<u16>()).to_ne_bytes();
        let says = [
            whole.as_slice(),
            &libc::SOL_UDP.to_ne_bytes(),
            &libc::UDP_SEGMENT.to_ne_bytes(),
            &length.to_ne_bytes(),
        ];
        for (to, from) in space.iter_mut().zip(says.into_iter().flatten()) {
            *to = *from;
        }
        self.control_length += SEGMENT_SPACE;
    }

    /// Takes it away again.
    const fn forget_segment(&mut self) {
        self.control_length = self.control_length.saturating_sub(SEGMENT_SPACE);
    }
}

#[cfg(test)]
mod tests;
