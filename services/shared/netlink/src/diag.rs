//! Asks the kernel for the socket of a flow (sock_diag, exact look-up): its inode, owner and cgroup in about a microsecond,
//! however many sockets there are.
//!
//! Source: `include/uapi/linux/inet_diag.h`, `sock_diag(7)`. TCP is looked up as the socket has it (source: local); UDP as
//! an incoming packet would be (source: remote), which also finds sockets that are not connected.

use std::net::IpAddr;

use crate::{Builder, Error, Message, Socket, flags};
use verdict::{Endpoint, Flow, Protocol};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `TCP_ESTABLISHED`; a datagram socket has it once it is connected.
const ESTABLISHED: u8 = 1;
/// `TCP_LISTEN`.
const LISTENING: u8 = 10;
const ATTRIBUTE_CGROUP_ID: u16 = 21;

/// A socket, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Inode in sockfs; 0 for one that belongs to no file (any more, or yet).
    pub inode: u64,
    /// Owner.
    pub uid: u32,
    /// Inode of its cgroup's directory in the unified hierarchy; 0 where the kernel does not say.
    pub cgroup_id: u64,
}

/// A netlink socket for questions.
#[derive(Debug)]
pub struct Diag {
    socket: Socket,
    request: Builder,
    buffer: Vec<u8>,
}

impl Diag {
    /// Needs no capability. Answers for the network namespace that it is opened in.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(rustix::net::netlink::SOCK_DIAG, 0)?;
        Ok(Self {
            socket,
            request: Builder::new(),
            buffer: vec![0; 8192],
        })
    }

    /// The socket of `flow`, which may be a listening one for connections that others open. `None`: the kernel knows none,
    /// or does not tell of this protocol.
    pub fn find(&mut self, flow: &Flow) -> Option<Found> {
        match flow.protocol {
            Protocol::TCP | Protocol::SCTP | Protocol::DCCP => {
                let found = self.exact(flow.protocol, flow.local, flow.remote);
                // a connection that is only half open has no inode of its own: its listener has
                found.filter(|found| found.inode != 0).or_else(|| {
                    let any = Endpoint::new(unspecified(flow.remote.address), 0);
                    self.exact(flow.protocol, flow.local, any).or(found)
                })
            }
            Protocol::UDP | Protocol::UDPLITE => self.exact(flow.protocol, flow.remote, flow.local),
            _ => None,
        }
    }

    /// The socket of a TCP connection that is open and that a process holds: no listener in its stead, and none that is closing.
    /// For whoever lets in by the owner: the kernel calls owner of what nobody holds root.
    pub fn find_connected(&mut self, flow: &Flow) -> Option<Found> {
        let found = self.exact(flow.protocol, flow.local, flow.remote);
        found.filter(|found| found.inode != 0)
    }

    /// The kernel answers, be it that it knows no such socket.
    pub fn answers(&mut self) -> bool {
        let nobody = Endpoint::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
        match self.ask(Protocol::UDP, nobody, nobody) {
            Ok(_) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        }
    }

    /// Ends the socket of a connection as if its program had been told of an error (`ECONNABORTED`): the other end gets a reset.
    /// Needs `CAP_NET_ADMIN`. False: there is none, or it is no connection's alone (a listener, a datagram socket for all).
    ///
    /// # Errors
    /// Where the kernel does not do it: no privilege, or built without `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&mut self, flow: &Flow) -> Result<bool, Error> {
        let (source, destination) = match flow.protocol {
            Protocol::UDP | Protocol::UDPLITE => (flow.remote, flow.local),
            _ => (flow.local, flow.remote),
        };
        let mut cookie = None;
        self.request.clear();
        self.request.begin(SOCK_DIAG_BY_FAMILY, flags::REQUEST, 1);
        self.request
            .octets(&question(flow.protocol, source, destination))
            .end();
        let asked = self
            .socket
            .request("find socket", &self.request, &mut self.buffer, |message| {
                cookie = own_cookie(message, flow);
                false
            });
        let cookie = match (asked, cookie) {
            (Err(error), _) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
            (Err(error), _) => return Err(error),
            (Ok(()), None) => return Ok(false),
            (Ok(()), Some(cookie)) => cookie,
        };
        self.request.clear();
        // another number than the question's: that one has no acknowledgement, or a late one
        self.request.begin(SOCK_DESTROY, flags::REQUEST | flags::ACK, 2);
        let mut octets = question(flow.protocol, flow.local, flow.remote);
        // this very socket, whatever has its ends by now
        octets.truncate(octets.len() - cookie.len());
        octets.extend(cookie);
        self.request.octets(&octets).end();
        match self
            .socket
            .request("end socket", &self.request, &mut self.buffer, |_| true)
        {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn exact(&mut self, protocol: Protocol, source: Endpoint, destination: Endpoint) -> Option<Found> {
        self.ask(protocol, source, destination).ok().flatten()
    }

    fn ask(
        &mut self,
        protocol: Protocol,
        source: Endpoint,
        destination: Endpoint,
    ) -> Result<Option<Found>, Error> {
        self.request.clear();
        self.request.begin(SOCK_DIAG_BY_FAMILY, flags::REQUEST, 1);
        self.request
            .octets(&question(protocol, source, destination))
            .end();
        let mut found = None;
        self.socket
            .request("find socket", &self.request, &mut self.buffer, |message| {
                found = parse(message);
                false
            })?;
        Ok(found)
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

/// `struct inet_diag_req_v2`.
fn question(protocol: Protocol, source: Endpoint, destination: Endpoint) -> Vec<u8> {
    let family = if source.address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let mut octets = Vec::with_capacity(56);
    octets.extend([u8::try_from(family).unwrap_or_default(), protocol.0, 0, 0]);
    octets.extend([0xff; 4]); // every state
    octets.extend(source.port.to_be_bytes());
    octets.extend(destination.port.to_be_bytes());
    octets.extend(padded(source.address));
    octets.extend(padded(destination.address));
    octets.extend([0; 4]); // any device
    octets.extend([0xff; 8]); // no cookie
    octets
}

fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            let (head, _) = octets.split_at_mut(4);
            head.copy_from_slice(&address.octets());
            octets
        }
    }
}

/// The socket's cookie, where it is this connection's alone. `struct inet_diag_msg`: state at 1, the remote port at 6, the cookie at 44.
fn own_cookie(message: &Message<'_>, flow: &Flow) -> Option<[u8; 8]> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let (body, _) = message.split::<72>()?;
    let state = *body.get(1)?;
    let is_own = match flow.protocol {
        Protocol::UDP | Protocol::UDPLITE => state == ESTABLISHED,
        _ => state != LISTENING,
    };
    let port = u16::from_be_bytes(*body.get(6..)?.first_chunk()?);
    (is_own && port == flow.remote.port)
        .then(|| body.get(44..)?.first_chunk().copied())
        .flatten()
}

/// `struct inet_diag_msg`: uid and inode are its last words.
fn parse(message: &Message<'_>) -> Option<Found> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let (body, attributes) = message.split::<72>()?;
    let word = |at: usize| {
        body.get(at..)?
            .first_chunk()
            .map(|octets| u32::from_ne_bytes(*octets))
    };
    let cgroup_id = attributes
        .find(ATTRIBUTE_CGROUP_ID)
        .and_then(|attribute| attribute.u64_ne());
    Some(Found {
        inode: word(68)?.into(),
        uid: word(64)?,
        cgroup_id: cgroup_id.unwrap_or(0),
    })
}
