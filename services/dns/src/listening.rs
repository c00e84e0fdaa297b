//! The sockets that queries come in by: passed by systemd, else bound here.

use std::{
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use daemon::{ready, status::Status};
use rustix::net::{SocketType, sockopt::socket_type};

use crate::{
    config::Config,
    server::{self, Sockets},
};

/// The name under which the service manager passes them.
const PASSED: &str = "dns";
const PROBLEM: &str = "port-taken";

/// All of them; where some are somebody else's, the others, and a problem that names him.
///
/// # Errors
/// Where there is none.
pub fn sockets(config: &Config, status: &Status) -> anyhow::Result<Sockets> {
    let passed = ready::take_passed(PASSED);
    if !passed.is_empty() {
        return from_systemd(passed, config.workers).context("use the sockets that systemd passed");
    }
    let bound = server::bind(&config.listen, config.workers);
    for error in &bound.failed {
        status.raise(PROBLEM, error.to_string());
    }
    anyhow::ensure!(
        !bound.sockets.udp.iter().all(Vec::is_empty),
        "no address could be had for queries: {}",
        bound
            .failed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    );
    Ok(bound.sockets)
}

fn from_systemd(passed: Vec<OwnedFd>, workers: usize) -> anyhow::Result<Sockets> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for socket in passed {
        match socket_type(&socket)? {
            SocketType::DGRAM => udp.push(UdpSocket::from(socket)),
            SocketType::STREAM => tcp.push(TcpListener::from(socket)),
            other => anyhow::bail!("a socket of type {other:?} is no place for queries"),
        }
    }
    Ok(Sockets::shared(&udp, tcp, workers)?)
}
