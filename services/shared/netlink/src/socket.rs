//! A netlink socket towards the kernel.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{FdFlags, fcntl_setfd, ioctl_fionbio},
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
        netlink::SocketAddrNetlink,
        recvfrom, sendto, socket_with,
        sockopt::{
            set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, socket_domain, socket_protocol,
        },
    },
};

use crate::{Builder, Error, Message, Messages, kind};

/// Non-blocking, close-on-exec. Datagrams of other senders than the kernel are skipped.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Opens a socket of this netlink family (`rustix::net::netlink::NETFILTER`, `SOCK_DIAG`, …), listening to the
    /// multicast groups whose bits are set. `None` is the family of links, addresses and routes, whose number is 0.
    pub fn open(family: impl Into<Option<Protocol>>, groups: u32) -> Result<Self, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, family.into())
            .map_err(Error::io("open"))?;
        bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(Error::io("bind"))?;
        Ok(Self { fd })
    }

    /// Takes up a socket that was opened before, by another process perhaps. Errors where it is none of this family.
    pub fn adopt(fd: OwnedFd, family: Protocol) -> Result<Self, Error> {
        let domain = socket_domain(&fd).map_err(Error::io("adopt"))?;
        let protocol = socket_protocol(&fd).map_err(Error::io("adopt"))?;
        if domain != AddressFamily::NETLINK || protocol != Some(family) {
            return Err(Error::Unexpected {
                what: "adopt: the descriptor is a socket of another kind".to_owned(),
            });
        }
        // flags of the descriptor are this process's; those of the open file came along, whoever set them
        fcntl_setfd(&fd, FdFlags::CLOEXEC).map_err(Error::io("adopt"))?;
        ioctl_fionbio(&fd, true).map_err(Error::io("adopt"))?;
        Ok(Self { fd })
    }

    /// What the kernel calls this socket: mostly the pid of the process that opened it first.
    pub fn port(&self) -> Result<u32, Error> {
        let address = getsockname(&self.fd).map_err(Error::io("getsockname"))?;
        SocketAddrNetlink::try_from(address)
            .map(|address| address.pid())
            .map_err(Error::io("getsockname"))
    }

    /// Asks for a receive buffer of `octets`, beyond the system's limit where `CAP_NET_ADMIN` allows.
    pub fn set_receive_buffer(&self, octets: usize) -> Result<(), Error> {
        set_socket_recv_buffer_size_force(&self.fd, octets)
            .or_else(|_| set_socket_recv_buffer_size(&self.fd, octets))
            .map_err(Error::io("set receive buffer"))
    }

    /// Lost messages are then not reported as `ENOBUFS` (the family counts them by itself).
    pub fn ignore_overruns(&self) -> Result<(), Error> {
        set_flag(&self.fd, libc::NETLINK_NO_ENOBUFS).map_err(|source| Error::Io {
            operation: "set NO_ENOBUFS",
            source,
        })
    }

    /// Sends messages to the kernel.
    pub fn send(&self, messages: &[u8]) -> Result<(), Error> {
        loop {
            match sendto(
                &self.fd,
                messages,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            ) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Error::io("send")(errno)),
            }
        }
    }

    /// Receives one datagram; `None` where nothing waits. A datagram longer than `buffer` is cut.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Error> {
        loop {
            match recvfrom(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    let from_kernel = sender
                        .and_then(|address| SocketAddrNetlink::try_from(address).ok())
                        .is_some_and(|address| address.pid() == 0);
                    if from_kernel {
                        return Ok(Some(buffer.get(..length).unwrap_or_default()));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(errno) => return Err(Error::io("receive")(errno)),
            }
        }
    }

    /// Sends `request` and hands each message of the answer to `on_message`, until the acknowledgement, the end of the
    /// dump, or `on_message` says that it has enough by returning `false`. Answers of the kernel come at once; the wait
    /// is bounded all the same. Not for sockets that also get events.
    pub fn request(
        &self,
        what: &str,
        request: &Builder,
        buffer: &mut [u8],
        mut on_message: impl FnMut(&Message<'_>) -> bool,
    ) -> Result<(), Error> {
        let sequence = Messages::new(request.as_bytes())
            .last()
            .map(|message| message.sequence);
        self.send(request.as_bytes())?;
        loop {
            let Some(datagram) = self.receive(buffer)? else {
                self.wait(what)?;
                continue;
            };
            // an earlier question may have been left before its last answer
            for message in Messages::new(datagram).filter(|message| Some(message.sequence) == sequence) {
                match message.acknowledgement() {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(source)) => {
                        return Err(Error::Refused {
                            what: what.to_owned(),
                            source,
                        });
                    }
                    None if message.kind == kind::DONE => return Ok(()),
                    None if !on_message(&message) => return Ok(()),
                    None => {}
                }
            }
        }
    }

    fn wait(&self, what: &str) -> Result<(), Error> {
        let timeout = Timespec {
            tv_sec: 2,
            tv_nsec: 0,
        };
        match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => Err(Error::Unexpected {
                what: format!("{what}: no answer for 2 s"),
            }),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::io("wait")(errno)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

#[expect(unsafe_code, reason = "setsockopt(SOL_NETLINK) has no safe wrapper in rustix")]
fn set_flag(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open, and the pointer is valid for `length` octets during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
