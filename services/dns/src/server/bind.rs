//! The edge: binds the addresses to serve.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind as bind_to, listen, socket_with, sockopt};

use super::{
    Sockets,
    holder::{self, Holder},
};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// What was bound, and what was not.
#[derive(Debug)]
pub struct Bound {
    /// To be served.
    pub sockets: Sockets,
    /// Addresses that could not be bound.
    pub failed: Vec<BindError>,
}

/// Which of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

/// Why an address cannot be served.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// UDP or TCP.
    pub transport: Transport,
    /// Who has it, as far as we may look.
    pub holder: Option<Holder>,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    /// With the remedy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, address) = (self.transport, self.address);
        write!(f, "bind {transport} {address}: ")?;
        if self.source.kind() != io::ErrorKind::AddrInUse {
            return write!(f, "{}", self.source);
        }
        match &self.holder {
            Some(holder) => write!(
                f,
                "it is held by {holder}; stop that service, or let it listen elsewhere"
            )?,
            None => write!(
                f,
                "another process holds it; `ss -lnp 'sport = :{}'` as root names it",
                address.port()
            )?,
        }
        write!(f, ". the other addresses are served all the same")
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        })
    }
}

/// Binds each address for UDP, once for each of `threads`, and TCP. Goes on with the addresses that work.
pub fn bind(addresses: &[SocketAddr], threads: usize) -> Bound {
    let threads = threads.max(1);
    let mut bound = Bound {
        sockets: Sockets {
            udp: (0..threads).map(|_| Vec::new()).collect(),
            tcp: Vec::new(),
        },
        failed: Vec::new(),
    };
    for address in addresses {
        let sockets: io::Result<Vec<UdpSocket>> = (0..threads).map(|_| udp(*address, threads > 1)).collect();
        match sockets {
            Ok(sockets) => {
                for (own, socket) in bound.sockets.udp.iter_mut().zip(sockets) {
                    own.push(socket);
                }
            }
            Err(source) => bound.failed.push(failed(*address, Transport::Udp, source)),
        }
        match tcp(*address) {
            Ok(listener) => bound.sockets.tcp.push(listener),
            Err(source) => bound.failed.push(failed(*address, Transport::Tcp, source)),
        }
    }
    bound
}

fn failed(address: SocketAddr, transport: Transport, source: io::Error) -> BindError {
    let table = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    let holder = (source.kind() == io::ErrorKind::AddrInUse)
        .then(|| holder::of(address, table))
        .flatten();
    BindError {
        address,
        transport,
        holder,
        source,
    }
}

/// `shared`: several sockets at one address, among which the kernel divides the clients. Only where it is needed: it would
/// let another process of the same user in.
fn udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = open(address, SocketType::DGRAM)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind_to(&socket, &address)?;
    Ok(socket.into())
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address, SocketType::STREAM)?;
    // connections of a server that was here before may still be closing
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind_to(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_address_is_named_with_its_holder_and_the_others_are_bound() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let holding = UdpSocket::bind(taken).unwrap();
        let free = SocketAddr::new([127, 0, 0, 17].into(), taken.port());
        let bound = bind(&[taken, free], 2);
        assert_eq!(bound.sockets.udp.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(bound.sockets.tcp.len(), 2);
        let [error] = &bound.failed[..] else {
            panic!("{:?}", bound.failed)
        };
        assert_eq!(
            (error.address, error.holder.as_ref().unwrap().pid),
            (taken, std::process::id())
        );
        assert!(error.to_string().contains("stop that service"), "{error}");
        drop(holding);
    }
}
