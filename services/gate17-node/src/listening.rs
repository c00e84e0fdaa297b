//! The sockets that callers come in by: passed by systemd, else bound here.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use daemon::{ready, status::Status};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with,
    sockopt::{set_ipv6_v6only, set_socket_reuseaddr},
};

use crate::{config::Config, handover::Sockets};

/// The name under which the service manager passes them.
const PASSED: &str = "gate17-node";
const PASSED_UDP: &str = "gate17-node-udp";
const PROBLEM: &str = "port-taken";
const PROBLEM_UDP: &str = "udp-port-taken";
const BACKLOG: i32 = 1024;

/// Those for callers and for datagrams.
///
/// # Errors
/// As [`sockets`].
pub fn all(config: &Config, status: &Status) -> anyhow::Result<Sockets> {
    Ok(Sockets {
        listeners: sockets(&config.listen, status)?,
        datagrams: datagrams(&config.listen_udp, status),
    })
}

/// All of them; where some are somebody else's, the others, and a problem that names them.
///
/// # Errors
/// Where there is none.
pub fn sockets(addresses: &[SocketAddr], status: &Status) -> anyhow::Result<Vec<TcpListener>> {
    let passed = ready::take_passed(PASSED);
    if !passed.is_empty() {
        let listeners: Vec<_> = passed.into_iter().map(TcpListener::from).collect();
        for listener in &listeners {
            listener
                .set_nonblocking(true)
                .context("use the sockets that systemd passed")?;
        }
        return Ok(listeners);
    }
    let (mut bound, mut failed) = (Vec::new(), Vec::new());
    for address in addresses {
        match open(*address) {
            Ok(socket) => bound.push(TcpListener::from(socket)),
            Err(error) => failed.push(format!("listen at {address}: {error}")),
        }
    }
    let failed = failed.join("; ");
    anyhow::ensure!(!bound.is_empty(), "{failed}");
    if !failed.is_empty() {
        status.raise(PROBLEM, failed);
    }
    Ok(bound)
}

/// Those for quotes by UDP; a port that is somebody else's is a problem, and no more than that.
pub fn datagrams(addresses: &[SocketAddr], status: &Status) -> Vec<UdpSocket> {
    let passed = ready::take_passed(PASSED_UDP).into_iter().map(UdpSocket::from);
    let mut sockets: Vec<_> = passed.collect();
    if sockets.is_empty() {
        for address in addresses {
            match UdpSocket::bind(address) {
                Ok(socket) => sockets.push(socket),
                Err(error) => status.raise(PROBLEM_UDP, format!("quotes at {address} by UDP: {error}")),
            }
        }
    }
    sockets.retain(|socket| socket.set_nonblocking(true).is_ok());
    sockets
}

fn open(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // the other family has a socket of its own
        set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
