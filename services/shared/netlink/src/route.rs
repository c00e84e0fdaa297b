//! Links, addresses and routes (rtnetlink): which way an address is reached, and when that may have changed.
//!
//! Source: rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`. Needs no privilege.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use crate::{Attributes, Builder, Error, Message, Messages, Socket, flags};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_VIA: u16 = 18;

/// `rtm_type`: of others, and of this host itself. All else is refused or dropped on the way.
const UNICAST: u8 = 1;
const LOCAL: u8 = 2;
/// `IFF_RUNNING`: it is up, and has a carrier.
const RUNNING: u32 = 1 << 6;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV4_RULE`, `RTMGRP_IPV6_IFADDR`, `RTMGRP_IPV6_ROUTE`,
/// `RTNLGRP_IPV6_RULE`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18;

const BUFFER: usize = 32 * 1024;
/// errno 105: events were lost.
const NO_BUFFER: i32 = 105;

/// How an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Number of the interface.
    pub interface: u32,
    /// The next hop, where it is another one than the address.
    pub gateway: Option<IpAddr>,
    /// The address that it is reached from.
    pub source: Option<IpAddr>,
    /// The interface is up, and has a carrier.
    pub running: bool,
}

/// Asks the kernel.
#[derive(Debug)]
pub struct Ways {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Ways {
    /// A socket for questions.
    ///
    /// # Errors
    /// Where there is none to be had.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(None, 0)?,
            buffer: vec![0; BUFFER],
            sequence: 0,
        })
    }

    /// Which way an address is reached now; `None` where there is none.
    pub fn to(&mut self, address: IpAddr) -> Option<Way> {
        let address = address.to_canonical();
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (family, length) = match address {
            IpAddr::V4(_) => (2, 32),
            IpAddr::V6(_) => (10, 128),
        };
        let mut request = Builder::new();
        // struct rtmsg: family, length of the destination, and nothing more
        request
            .begin(GETROUTE, flags::REQUEST, self.next())
            .octets(&[family, length, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        request.attribute(RTA_DST, &octets).end();
        let mut way = None;
        // that there is no route is an error of the kernel's
        let _none = self
            .socket
            .request("find a route", &request, &mut self.buffer, |message| {
                way = read(message);
                false
            });
        let mut way = way?;
        way.running = self.runs(way.interface);
        Some(way)
    }

    fn runs(&mut self, interface: u32) -> bool {
        let mut request = Builder::new();
        let sequence = self.next();
        // struct ifinfomsg: family, type, index, flags, mask
        let mut header = [0; 16];
        for (to, from) in header.iter_mut().skip(4).zip(interface.to_ne_bytes()) {
            *to = from;
        }
        request
            .begin(GETLINK, flags::REQUEST, sequence)
            .octets(&header)
            .end();
        let mut runs = false;
        let _gone = self
            .socket
            .request("look at a link", &request, &mut self.buffer, |message| {
                runs =
                    message.kind == NEWLINK && link(message).is_some_and(|(_, flags)| flags & RUNNING != 0);
                false
            });
        runs
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

fn read(message: &Message<'_>) -> Option<Way> {
    let (header, attributes) = message.split::<12>()?;
    let [.., kind, _, _, _, _] = *header;
    if message.kind != NEWROUTE || !matches!(kind, UNICAST | LOCAL) {
        return None;
    }
    let gateway = attributes
        .find(RTA_GATEWAY)
        .and_then(|attribute| address(attribute.payload))
        // struct rtvia: a family of two octets, and an address of another family than the route's
        .or_else(|| address(attributes.find(RTA_VIA)?.payload.get(2..)?));
    Some(Way {
        interface: attributes.find(RTA_OIF)?.u32_ne()?,
        gateway,
        source: attributes
            .find(RTA_PREFSRC)
            .and_then(|attribute| address(attribute.payload)),
        running: false,
    })
}

/// Number and flags.
fn link(message: &Message<'_>) -> Option<(u32, u32)> {
    let (header, _): (&[u8; 16], Attributes<'_>) = message.split()?;
    let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header;
    Some((
        u32::from_ne_bytes([i0, i1, i2, i3]),
        u32::from_ne_bytes([f0, f1, f2, f3]),
    ))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    let v6 = <[u8; 16]>::try_from(octets).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

/// What happened to links, addresses and routes since somebody looked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shaken {
    /// Interfaces that were not running for a moment at least, or lost an address: what went over them may be broken, also
    /// where all is as before by now.
    pub interfaces: BTreeSet<u32>,
    /// Something else changed.
    pub other: bool,
    /// Events were lost: it may have been any of them.
    pub lost: bool,
}

impl Shaken {
    /// Nothing happened.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn hear(&mut self, message: &Message<'_>) {
        self.other = true;
        match (message.kind, link(message), message.split::<8>()) {
            (DELLINK, Some((index, _)), _) => {
                self.interfaces.insert(index);
            }
            (NEWLINK, Some((index, flags)), _) if flags & RUNNING == 0 => {
                self.interfaces.insert(index);
            }
            // struct ifaddrmsg: family, length, flags, scope, index
            (DELADDR, _, Some((&[_, _, _, _, i0, i1, i2, i3], _))) => {
                self.interfaces.insert(u32::from_ne_bytes([i0, i1, i2, i3]));
            }
            _ => {}
        }
    }
}

/// Hears of changes of links, addresses, routes and their rules, of both families.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// From now on. Its descriptor can be read when something happened.
    ///
    /// # Errors
    /// Where there is no socket to be had.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(None, GROUPS)?;
        Ok(Self { socket })
    }

    /// Takes in all that waits.
    ///
    /// # Errors
    /// The socket cannot be read.
    pub fn take(&self) -> Result<Shaken, Error> {
        let mut shaken = Shaken::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Some(datagram)) => Messages::new(datagram).for_each(|message| shaken.hear(&message)),
                Ok(None) => return Ok(shaken),
                Err(error) if error.raw_os_error() == Some(NO_BUFFER) => shaken.lost = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn this_host_is_reached_by_itself_and_nobody_by_what_is_no_route() {
        let mut ways = Ways::open().unwrap();
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let way = ways.to(loopback.parse().unwrap()).unwrap();
            assert!(
                way.running && way.interface > 0 && way.gateway.is_none(),
                "{way:?}"
            );
        }
        assert_eq!(
            ways.to("0.0.0.0".parse().unwrap())
                .filter(|way| way.gateway.is_some()),
            None
        );
        assert!(Watch::open().unwrap().take().unwrap().is_nothing());
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_read(kind: u16, payload: Vec<u8>) {
            let mut builder = Builder::new();
            builder.begin(kind, 0, 1).octets(&payload).end();
            let mut shaken = Shaken::default();
            for message in Messages::new(builder.as_bytes()) {
                let _ = read(&message);
                shaken.hear(&message);
            }
        }
    }
}
