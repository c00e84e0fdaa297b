//! The route of the last resort for IPv6: what no other route leads to goes to this host itself, from an address that nobody
//! else has. Where there is IPv6, its own routes come first.
//!
//! Source: rtnetlink(7), `linux/rtnetlink.h`, `linux/if_addr.h`. Changing it needs `CAP_NET_ADMIN`.

use std::net::Ipv6Addr;

use crate::{Builder, Error, Socket, flags};

const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;

const INET6: u8 = 10;
/// `IFA_F_NODAD`: nobody else is on loopback.
const NODAD: u8 = 0x02;
/// `RT_TABLE_MAIN`, `RTN_UNICAST`.
const MAIN: u8 = 254;
const UNICAST: u8 = 1;
/// `rtm_protocol`: who put it there. By it ours is known.
const OURS: u8 = 117;
/// The kernel's own number for `lo`, in every network namespace.
const LOOPBACK: u32 = 1;
/// Any other route has a lower one.
const LAST: u32 = u32::MAX;

/// What connections come from that take it: unique and local (RFC 4193), so that names which have addresses of both families
/// are reached by IPv4 first (RFC 6724, label 13 beside the label 1 of the internet).
pub const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfd17, 0x0717, 0x1717, 0, 0, 0, 0, 0x717);

const BUFFER: usize = 4096;
/// errno of what is there already, and of what is not: no such process, no such device, no such address.
const PRESENT: [i32; 1] = [17];
const ABSENT: [i32; 3] = [3, 19, 99];

/// Puts it there; whether it was not.
///
/// # Errors
/// The kernel refuses: it has no IPv6, or this process may not.
pub fn add() -> Result<bool, Error> {
    let address = change(NEWADDR, flags::CREATE, "add an address to lo", address)?;
    let route = change(NEWROUTE, flags::CREATE, "add a route of the last resort", route)?;
    Ok(address || route)
}

/// Takes it away; whether it was there.
///
/// # Errors
/// The kernel refuses.
pub fn remove() -> Result<bool, Error> {
    let route = change(DELROUTE, 0, "remove the route of the last resort", route);
    let address = change(DELADDR, 0, "remove its address from lo", address)?;
    Ok(route? || address)
}

/// Whether it changed something.
fn change(kind: u16, more: u16, what: &str, fill: fn(&mut Builder)) -> Result<bool, Error> {
    let socket = Socket::open(None, 0)?;
    let mut request = Builder::new();
    request.begin(kind, flags::REQUEST | flags::ACK | more, 1);
    fill(&mut request);
    request.end();
    let as_wanted: &[i32] = match kind {
        NEWADDR | NEWROUTE => &PRESENT,
        _ => &ABSENT,
    };
    match socket.request(what, &request, &mut [0; BUFFER], |_| true) {
        Ok(()) => Ok(true),
        Err(error)
            if error
                .raw_os_error()
                .is_some_and(|errno| as_wanted.contains(&errno)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// `struct ifaddrmsg`: family, length, flags, scope, index.
fn address(request: &mut Builder) {
    let [a, b, c, d] = LOOPBACK.to_ne_bytes();
    request.octets(&[INET6, 128, NODAD, 0, a, b, c, d]);
    request.attribute(IFA_LOCAL, &SOURCE.octets());
    request.attribute(IFA_ADDRESS, &SOURCE.octets());
}

/// `struct rtmsg`: family, lengths of destination and source, service, table, protocol, scope, type, flags.
fn route(request: &mut Builder) {
    request.octets(&[INET6, 0, 0, 0, MAIN, OURS, 0, UNICAST, 0, 0, 0, 0]);
    request.attribute(RTA_OIF, &LOOPBACK.to_ne_bytes());
    request.attribute(RTA_PRIORITY, &LAST.to_ne_bytes());
}
