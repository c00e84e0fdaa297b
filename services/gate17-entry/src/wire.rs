//! Between the contracts and our own types.

use std::net::SocketAddr;

/// An address of 4 or 16 octets, and a port.
pub fn end(octets: &[u8], port: u32) -> Option<SocketAddr> {
    let address = proto::convert::address("address", octets).ok()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}
