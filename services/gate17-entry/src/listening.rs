//! The sockets that redirected connections come in by: passed by systemd, else bound here.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::Context as _;
use daemon::ready;
use rustix::net::{
    SocketType,
    sockopt::{set_socket_recv_buffer_size, socket_type},
};

/// The name under which the service manager passes them.
const PASSED: &str = "gate17";
/// Octets of a program that wait to be read; the kernel takes twice as many, with what it needs itself. They come from this host: with
/// more, they would only leave the processor's cache before they are read.
const PROGRAMS: usize = 208 << 10;

/// One TCP and one UDP socket for each address.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Listening.
    pub tcp: Vec<TcpListener>,
    /// Bound.
    pub udp: Vec<UdpSocket>,
}

/// Those that systemd passed, else new ones.
///
/// # Errors
/// Where one cannot be had: half an entry would refuse half of the connections, for no reason that anybody could see.
pub fn sockets(listen: &[SocketAddr]) -> anyhow::Result<Sockets> {
    let passed = ready::take_passed(PASSED);
    let mut sockets = Sockets::default();
    for socket in passed {
        match socket_type(&socket)? {
            SocketType::STREAM => sockets.tcp.push(TcpListener::from(socket)),
            SocketType::DGRAM => sockets.udp.push(UdpSocket::from(socket)),
            other => {
                anyhow::bail!("systemd passed a socket of type {other:?}, which nothing is redirected to")
            }
        }
    }
    if sockets.tcp.is_empty() && sockets.udp.is_empty() {
        for address in listen {
            let what = || {
                format!(
                    "listen on {address}, where tunnelled connections are sent; `ss -lntup` says who is there"
                )
            };
            sockets.tcp.push(TcpListener::bind(address).with_context(what)?);
            sockets.udp.push(UdpSocket::bind(address).with_context(what)?);
        }
    }
    for socket in &sockets.tcp {
        socket.set_nonblocking(true)?;
        // connections that it accepts have it as well
        set_socket_recv_buffer_size(socket, PROGRAMS)?;
    }
    for socket in &sockets.udp {
        socket.set_nonblocking(true)?;
    }
    Ok(sockets)
}
