//! Where did a redirected connection want to go?

use std::net::{IpAddr, SocketAddr};

use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
use tokio::net::TcpStream;

/// The destination that the kernel rewrote (`SO_ORIGINAL_DST`, `IP6T_SO_ORIGINAL_DST`); `None` where it did not: somebody
/// called this entry itself.
pub fn destination(socket: &TcpStream) -> Option<SocketAddr> {
    let own = plain(socket.local_addr().ok()?);
    let original = match own.ip() {
        IpAddr::V4(_) => SocketAddr::V4(ip_original_dst(socket).ok()?),
        IpAddr::V6(_) => SocketAddr::V6(ipv6_original_dst(socket).ok()?),
    };
    let original = plain(original);
    (original != own).then_some(original)
}

/// Address and port alone: no v4-mapped address, no scope, no flow label.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
