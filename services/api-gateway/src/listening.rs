//! The sockets that calls come in by: passed by systemd, else bound here.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use daemon::ready;

/// The name under which the service manager passes them.
const PASSED: &str = "api";

/// Callers that wait to be taken, as systemd has it for sockets that it passes: the library's 128 are there in a millisecond, and
/// whoever comes then waits a second.
const BACKLOG: i32 = 4096;

/// Those that systemd passed, else new ones.
///
/// # Errors
/// Where one cannot be had.
pub fn sockets(listen: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let passed = ready::take_passed(PASSED).into_iter().map(TcpListener::from);
    let mut sockets: Vec<TcpListener> = passed.collect();
    if sockets.is_empty() {
        for address in listen {
            let socket = TcpListener::bind(address).with_context(|| {
                format!("listen on {address}, where programs call; `ss -lntp` says who is there")
            })?;
            rustix::net::listen(&socket, BACKLOG)
                .with_context(|| format!("let callers wait on {address}"))?;
            sockets.push(socket);
        }
    }
    for socket in &sockets {
        let address = socket.local_addr()?;
        anyhow::ensure!(
            address.ip().is_loopback(),
            "systemd passed a socket on {address}: the API is for this host alone; mend ListenStream= of portmaster-api.socket"
        );
        socket.set_nonblocking(true)?;
    }
    Ok(sockets)
}
