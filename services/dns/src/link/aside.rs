//! A socket beside the stream, on which the interceptor is told and not waited for: it reads all that lies there before it decides
//! about a packet, so that what was put in is known in time.
//!
//! Invariants: only the mesh reads what is told, whoever finds the socket's name. What does not fit is not put in; then the stream
//! serves, whose messages are acknowledged.

use std::{
    io,
    os::{fd::OwnedFd, unix::net},
};

use daemon::grpc::is_of_the_mesh;
use prost::Message as _;
use proto::interceptor::v1::Told;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, send, socket_with,
    sockopt::{set_socket_send_buffer_size, socket_peercred},
};
use tokio::net::UnixListener;

/// Nobody else is to call.
const BACKLOG: i32 = 4;
/// Room for what is not read yet; the kernel gives what `net.core.wmem_max` allows.
const ROOM: usize = 1 << 20;
/// What is longer goes over the stream, as in the interceptor's `told::aside`.
const LONGEST: usize = 16 << 10;

/// A socket that the interceptor may call, once.
#[derive(Debug)]
pub(super) struct Offer {
    listener: UnixListener,
    name: Vec<u8>,
}

/// What can be put in without waiting.
#[derive(Debug)]
pub(super) struct Aside(OwnedFd);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It lies there.
    Done,
    /// There is no room for it now.
    Full,
    /// Nobody will read it.
    Closed,
}

impl Offer {
    /// A socket in the abstract name space, which belongs to no folder, under a name of its own.
    pub(super) fn new() -> io::Result<Self> {
        let name = format!("portmaster-dns-{:032x}", rand::random::<u128>()).into_bytes();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&socket, &SocketAddrUnix::new_abstract_name(&name)?)?;
        listen(&socket, BACKLOG)?;
        Ok(Self {
            listener: UnixListener::from_std(net::UnixListener::from(socket))?,
            name,
        })
    }

    /// Without the zero octet that it begins with.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Waits for the interceptor to call.
    pub(super) async fn taken(self) -> io::Result<Aside> {
        loop {
            let (caller, _) = self.listener.accept().await?;
            let caller = OwnedFd::from(caller.into_std()?);
            // everybody sees the name (/proc/net/unix)
            if is_of_the_mesh(socket_peercred(&caller)?.uid.as_raw()) {
                set_socket_send_buffer_size(&caller, ROOM)?;
                return Ok(Aside(caller));
            }
        }
    }
}

impl Aside {
    pub(super) fn put(&self, told: &Told) -> Put {
        let message = told.encode_to_vec();
        if message.len() > LONGEST {
            return Put::Full;
        }
        loop {
            return match send(&self.0, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => Put::Done,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS | rustix::io::Errno::NOMEM) => {
                    Put::Full
                }
                Err(_) => Put::Closed,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::interceptor::v1::ToldName;
    use rustix::net::{RecvFlags, connect, recv};

    fn call(name: &[u8]) -> OwnedFd {
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        connect(&socket, &SocketAddrUnix::new_abstract_name(name).unwrap()).unwrap();
        socket
    }

    fn told(name: &str) -> Told {
        let name = ToldName {
            name: name.into(),
            ..ToldName::default()
        };
        Told {
            names: vec![name],
            ..Told::default()
        }
    }

    #[tokio::test]
    async fn what_is_put_in_lies_there_whole_and_in_order_also_when_its_writer_is_gone() {
        let offer = Offer::new().unwrap();
        let reader = call(offer.name());
        let aside = offer.taken().await.unwrap();
        assert_eq!(aside.put(&told("one.test")), Put::Done);
        assert_eq!(aside.put(&told("two.test")), Put::Done);
        assert_eq!(aside.put(&told(&"x".repeat(LONGEST))), Put::Full);
        drop(aside);
        let mut buffer = [0; 256];
        for name in ["one.test", "two.test"] {
            let (length, _) = recv(&reader, buffer.as_mut_slice(), RecvFlags::DONTWAIT).unwrap();
            assert_eq!(Told::decode(&buffer[..length]).unwrap(), told(name));
        }
        assert_eq!(
            recv(&reader, buffer.as_mut_slice(), RecvFlags::DONTWAIT)
                .unwrap()
                .0,
            0
        );
    }

    #[tokio::test]
    async fn nobody_is_waited_for() {
        let offer = Offer::new().unwrap();
        let reader = call(offer.name());
        let aside = offer.taken().await.unwrap();
        let mut put = 0;
        while aside.put(&told("one.test")) == Put::Done {
            put += 1;
        }
        assert!(put > 50, "{put}");
        assert_eq!(aside.put(&told("one.test")), Put::Full);
        drop(reader);
        assert_eq!(aside.put(&told("one.test")), Put::Closed);
    }
}
