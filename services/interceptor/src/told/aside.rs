//! The DNS service's words that are not acknowledged: they lie in a socket, and are read before anything is decided by names.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    time::Duration,
};

use daemon::{grpc::is_of_the_mesh, status::Counter};
use prost::Message as _;
use proto::{
    convert::octets,
    interceptor::v1::{self as wire, Told as Message, ToldName},
};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
    sockopt::socket_peercred,
};

use super::{App, Hearer};

/// The DNS service sends nothing longer.
const LONGEST: usize = 16 << 10;
/// No answer of a DNS server holds longer (RFC 8767 §4 advises a week).
const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The reading end.
#[derive(Debug)]
pub struct Aside {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Of names.
    told: Counter,
}

/// A name that somebody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub hearer: Hearer,
    /// What it was told; those that make no sense are left out.
    pub addresses: Vec<IpAddr>,
    /// For which name.
    pub name: String,
    /// For how long.
    pub holds: Duration,
}

impl Aside {
    /// Calls the abstract socket `name`. `told` counts names.
    ///
    /// # Errors
    /// Where nobody of the mesh listens there.
    pub fn open(name: &[u8], told: Counter) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
        if !is_of_the_mesh(socket_peercred(&socket)?.uid.as_raw()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "somebody else listens there",
            ));
        }
        Ok(Self {
            socket,
            buffer: vec![0; LONGEST],
            told,
        })
    }

    /// All that lies there, without waiting. False: nothing will ever come again.
    pub(super) fn read(&mut self, mut hear: impl FnMut(Heard)) -> bool {
        loop {
            let length = match recv(&self.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok((length, _)) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return errno == rustix::io::Errno::AGAIN,
            };
            let message = self.buffer.get(..length).unwrap_or_default();
            // what is malformed names nothing
            let names = Message::decode(message).unwrap_or_default().names;
            self.told.add(names.len().try_into().unwrap_or(u64::MAX));
            names.into_iter().for_each(|name| hear(Heard::from(name)));
        }
    }

    /// Another descriptor for the same, to wait by.
    pub(super) fn watched(&self) -> io::Result<tokio::net::UnixStream> {
        // a stream only by its type: nothing is read from it
        tokio::net::UnixStream::from_std(UnixStream::from(self.socket.try_clone()?))
    }
}

impl From<ToldName> for Heard {
    fn from(told: ToldName) -> Self {
        let hearer = match told.app {
            Some(app) if !told.for_others => Hearer::App(App {
                device: app.device,
                inode: app.inode,
                script: (!app.script.is_empty()).then(|| PathBuf::from(app.script)),
                uid: app.uid,
            }),
            _ => Hearer::Anybody,
        };
        Self {
            hearer,
            addresses: told
                .addresses
                .iter()
                .filter_map(|octets| address(octets))
                .collect(),
            name: told.name,
            holds: Duration::from_secs(told.seconds.into()).min(LONGEST_LIFE),
        }
    }
}

/// Of one address, as [`Heard`] is made of it again.
pub(super) fn message(hearer: &Hearer, address: IpAddr, name: &str, left: Duration) -> ToldName {
    let app = match hearer {
        Hearer::App(app) => Some(wire::App {
            device: app.device,
            inode: app.inode,
            script: app
                .script
                .as_ref()
                .map(|script| script.to_string_lossy().into_owned())
                .unwrap_or_default(),
            uid: app.uid,
        }),
        Hearer::Anybody => None,
    };
    ToldName {
        app,
        for_others: false,
        name: name.to_owned(),
        addresses: vec![octets(address)],
        seconds: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
    }
}

/// 4 or 16 octets in network order.
pub(crate) fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(octets)
        .ok()
        .map(|v6| Ipv6Addr::from(v6).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::told::Names;
    use rustix::net::{SendFlags, accept, bind, listen, send};

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 17, 10));

    /// What the DNS service does: a listening socket under a name of its own.
    fn offer(name: &[u8]) -> OwnedFd {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let socket = socket.unwrap();
        bind(&socket, &SocketAddrUnix::new_abstract_name(name).unwrap()).unwrap();
        listen(&socket, 1).unwrap();
        socket
    }

    fn told(name: &str) -> Vec<u8> {
        let name = ToldName {
            name: name.into(),
            addresses: vec![octets(A)],
            seconds: 60,
            ..ToldName::default()
        };
        Message {
            names: vec![name],
            ..Message::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn what_lies_there_is_known_before_a_name_is_asked_for_and_after_its_writer_is_gone() {
        let place = format!("portmaster-test-{}", std::process::id()).into_bytes();
        let listener = offer(&place);
        let (names, count) = (Names::default(), Counter::default());
        names.listen(Aside::open(&place, count.clone()).unwrap());
        let dns = accept(&listener).unwrap();
        assert!(names.names(None, A).is_empty());
        for message in [told("one.test"), b"\xff".to_vec(), told("two.test")] {
            send(&dns, &message, SendFlags::empty()).unwrap();
        }
        assert_eq!(
            names.names(None, A),
            [Arc::from("two.test"), Arc::from("one.test")]
        );
        send(&dns, &told("three.test"), SendFlags::empty()).unwrap();
        drop(dns);
        assert_eq!(names.names(None, A)[0], Arc::from("three.test"));
        assert_eq!(count.get(), 3);
        // another one takes its place, and what comes by the stream is newer than what lies there
        names.listen(Aside::open(&place, count).unwrap());
        let dns = accept(&listener).unwrap();
        send(&dns, &told("four.test"), SendFlags::empty()).unwrap();
        let five = Message::decode(told("five.test").as_slice())
            .unwrap()
            .names
            .remove(0);
        names.hear(&five.into(), false);
        assert_eq!(
            names.names(None, A)[..2],
            [Arc::from("five.test"), Arc::from("four.test")]
        );
    }
}
