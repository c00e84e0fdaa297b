//! Datagrams, many in one system call, with the address that each was sent to: its answer leaves from there.
//!
//! With [`send`] the only module of the server that makes system calls without a safe wrapper: recvmmsg and sendmmsg with control
//! messages, and the options that switch these on.

mod send;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
};

pub(super) use send::{Outgoing, Sender, send_one};

/// How many datagrams one call takes.
pub(super) const BATCH: usize = 64;
/// No query is larger; what is gets cut, and is no query.
const LARGEST: usize = 4096;
/// Room for one control message with IPv6 packet information.
const CONTROL: usize = 64;
/// Of `sockaddr_in6`.
const ADDRESS: usize = 28;
const WORD: usize = size_of::<usize>();
const CONTROL_HEAD: usize = size_of::<libc::cmsghdr>();

/// Who sent a datagram, and to which address of ours: all that its answer needs.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Way {
    control: [u8; CONTROL],
    peer: [u8; ADDRESS],
    peer_length: u32,
    control_length: usize,
}

/// Datagrams that came.
pub(super) struct Batch {
    /// Where the kernel writes; each head points at its buffer, address and control area.
    heads: Vec<libc::mmsghdr>,
    /// What `heads` point at, with `bytes` and `ways`; none of them is ever resized.
    _pieces: Vec<libc::iovec>,
    bytes: Vec<Buffer>,
    ways: Vec<Way>,
    lengths: Vec<usize>,
}

/// A datagram. Not as far from the next one as a page is long: the beginnings of all of them would share a few lines of the
/// processor's cache.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Buffer {
    bytes: [u8; LARGEST],
    _apart: [u8; 64],
}

const NOBODY: Way = Way {
    control: [0; CONTROL],
    peer: [0; ADDRESS],
    peer_length: 0,
    control_length: 0,
};

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("lengths", &self.lengths)
            .finish_non_exhaustive()
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        let empty = Buffer {
            bytes: [0; LARGEST],
            _apart: [0; 64],
        };
        let (mut bytes, mut ways) = (vec![empty; BATCH], vec![NOBODY; BATCH]);
        let piece = |buffer: &mut Buffer| libc::iovec {
            iov_base: buffer.bytes.as_mut_ptr().cast(),
            iov_len: LARGEST,
        };
        let mut pieces: Vec<libc::iovec> = bytes.iter_mut().map(piece).collect();
        let head = |(piece, way): (&mut libc::iovec, &mut Way)| {
            let mut head = empty_head();
            head.msg_hdr.msg_iov = piece;
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_name = way.peer.as_mut_ptr().cast();
            head.msg_hdr.msg_namelen = ADDRESS as u32;
            head.msg_hdr.msg_control = way.control.as_mut_ptr().cast();
            head.msg_hdr.msg_controllen = CONTROL as _;
            head
        };
        let heads = pieces.iter_mut().zip(&mut ways).map(head).collect();
        Self {
            heads,
            _pieces: pieces,
            bytes,
            ways,
            lengths: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is there, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where there is nothing; any that an earlier send came to.
    #[expect(
        unsafe_code,
        reason = "recvmmsg with control messages has no safe wrapper in rustix"
    )]
    pub(super) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        // what the last call wrote
        for head in self.heads.iter_mut().take(self.lengths.len()) {
            head.msg_hdr.msg_namelen = ADDRESS as u32;
            head.msg_hdr.msg_controllen = CONTROL as _;
        }
        self.lengths.clear();
        // SAFETY: each head points at one buffer, one address and one control area of the sizes said, all distinct, which belong to
        // this value, stay where they are, and are borrowed mutably with it.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.heads.as_mut_ptr(),
                self.heads.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (head, way) in self.heads.iter().zip(&mut self.ways).take(count) {
            way.peer_length = head.msg_hdr.msg_namelen;
            way.control_length = head.msg_hdr.msg_controllen;
            let cut = head.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            self.lengths.push(if cut { 0 } else { head.msg_len as usize });
        }
        Ok(())
    }

    /// How many datagrams the last call took.
    pub(super) const fn count(&self) -> usize {
        self.lengths.len()
    }

    /// A datagram of the last call.
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], &Way)> {
        let bytes = self.bytes.get(at)?.bytes.get(..*self.lengths.get(at)?)?;
        Some((bytes, self.ways.get(at)?))
    }
}

impl Way {
    /// The sender.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        let [f0, f1, p0, p1, rest @ ..] = &self.peer;
        let port = u16::from_be_bytes([*p0, *p1]);
        match i32::from(u16::from_ne_bytes([*f0, *f1])) {
            libc::AF_INET => Some(SocketAddr::new(
                Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
                port,
            )),
            libc::AF_INET6 => {
                let address = Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?);
                let scope = u32::from_ne_bytes(*rest.last_chunk::<4>()?);
                Some(SocketAddrV6::new(address, port, 0, scope).into())
            }
            _ => None,
        }
    }

    /// The address that it was sent to.
    pub(super) fn local(&self) -> Option<IpAddr> {
        match self.control_kind()? {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // struct in_pktinfo: interface, address of ours, address in the header
                let address = self.control.get(CONTROL_HEAD + 8..)?.first_chunk::<4>()?;
                Some(Ipv4Addr::from(*address).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = self.control.get(CONTROL_HEAD..)?.first_chunk::<16>()?;
                Some(Ipv6Addr::from(*address).into())
            }
            _ => None,
        }
    }

    fn control_kind(&self) -> Option<(i32, i32)> {
        if self.control_length < CONTROL_HEAD {
            return None;
        }
        let field = |at| Some(i32::from_ne_bytes(*self.control.get(at..)?.first_chunk::<4>()?));
        Some((field(WORD)?, field(WORD + 4)?))
    }

    /// Turns what was received into what is sent: the address asked becomes the source, and the kernel chooses the
    /// interface, but for addresses that exist on one only.
    fn turn_round(&mut self) {
        match (self.control_kind(), self.local()) {
            (Some((libc::IPPROTO_IP, _)), Some(IpAddr::V4(asked))) => {
                let data = self.control.get_mut(CONTROL_HEAD..).unwrap_or_default();
                for (to, from) in data.iter_mut().zip([0; 4].iter().chain(&asked.octets())) {
                    *to = *from;
                }
            }
            (Some((libc::IPPROTO_IPV6, _)), Some(IpAddr::V6(asked))) if !asked.is_unicast_link_local() => {
                let interface = self.control.get_mut(CONTROL_HEAD + 16..CONTROL_HEAD + 20);
                interface.unwrap_or_default().fill(0);
            }
            _ => {}
        }
    }
}

/// Asks the kernel to say to which address each datagram was sent, and for room for many.
#[expect(unsafe_code, reason = "IP_PKTINFO has no safe wrapper in rustix")]
pub(super) fn prepare(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, the value is an int and lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // less is no error: the kernel gives what net.core.rmem_max allows
    rustix::net::sockopt::set_socket_recv_buffer_size(socket, 4 << 20)?;
    Ok(())
}

#[expect(unsafe_code, reason = "the padding of msghdr has no public name")]
const fn empty_head() -> libc::mmsghdr {
    // SAFETY: integers and pointers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}
