//! An upgrade that ends nothing: where the program on disk is another one, a reload starts it and gives it the sockets. It
//! takes all new callers in; this process carries what it carries to its end, and goes.

use std::{
    env, fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use daemon::ready;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    sockopt::{Timeout, set_socket_timeout},
};

/// By this a process knows that its standard input is the one before it.
const MARK: &str = "GATE17_NODE_SUCCEEDS";
/// For the other process to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const LISTENER: u8 = b't';
const DATAGRAMS: u8 = b'u';
const ALL: u8 = b'e';
const READY: u8 = b'r';
const GO: u8 = b'g';
/// What the kernel says of a file that is no more.
const DELETED: &[u8] = b" (deleted)";

/// Sockets of a node.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For callers.
    pub listeners: Vec<TcpListener>,
    /// For quotes by UDP.
    pub datagrams: Vec<UdpSocket>,
}

/// The process before this one.
#[derive(Debug)]
pub struct Before(OwnedFd);

/// The program, where another one lies there than runs.
pub fn newer_program() -> Option<PathBuf> {
    let running = fs::metadata("/proc/self/exe").ok()?;
    let named = env::current_exe().ok()?;
    let octets = named.as_os_str().as_bytes();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(
        octets.strip_suffix(DELETED).unwrap_or(octets),
    ));
    let there = fs::metadata(&path).ok()?;
    ((there.dev(), there.ino()) != (running.dev(), running.ino())).then_some(path)
}

/// Starts `program` in this one's place. When this returns, the service manager knows it as the service, and it takes callers
/// in.
///
/// # Errors
/// Where it does not come up: this process goes on as before.
pub fn begin(program: &PathBuf, sockets: &Sockets) -> anyhow::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let (own, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let mut child = Command::new(program)
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        // of this process alone
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::from(other))
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    match give(&own, sockets, &child) {
        Ok(()) => Ok(()),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error.context("the new program does not come up, the old one goes on"))
        }
    }
}

fn give(to: &OwnedFd, sockets: &Sockets, child: &Child) -> anyhow::Result<()> {
    set_socket_timeout(to, Timeout::Recv, Some(PATIENCE))?;
    for listener in &sockets.listeners {
        say(to, LISTENER, Some(listener.as_fd()))?;
    }
    for socket in &sockets.datagrams {
        say(to, DATAGRAMS, Some(socket.as_fd()))?;
    }
    say(to, ALL, None)?;
    ensure!(hear(to)?.0 == READY, "it says something else");
    ready::hand_over_to(child.id());
    say(to, GO, None)?;
    Ok(())
}

/// The sockets, where this process was started by the one before it.
///
/// # Errors
/// Where that does not hand them over.
pub fn succeed() -> anyhow::Result<Option<(Sockets, Before)>> {
    if env::var_os(MARK).is_none() {
        return Ok(None);
    }
    let before = io::stdin().as_fd().try_clone_to_owned()?;
    set_socket_timeout(&before, Timeout::Recv, Some(PATIENCE))?;
    let mut sockets = Sockets::default();
    loop {
        match hear(&before).context("take the sockets over")? {
            (LISTENER, Some(socket)) => sockets.listeners.push(socket.into()),
            (DATAGRAMS, Some(socket)) => sockets.datagrams.push(socket.into()),
            (ALL, None) => return Ok(Some((sockets, Before(before)))),
            _ => bail!("the process before this one says something else"),
        }
    }
}

impl Before {
    /// This process works; waits until it is the service.
    ///
    /// # Errors
    /// Where the other one does not want that.
    pub fn relieve(self) -> anyhow::Result<()> {
        say(&self.0, READY, None)?;
        ensure!(hear(&self.0)?.0 == GO, "the process before this one stays");
        Ok(())
    }
}

fn say(to: &OwnedFd, what: u8, with: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptors: Vec<_> = with.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(to, &[IoSlice::new(&[what])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn hear(from: &OwnedFd) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut what = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let heard = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut what)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if heard.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut with = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            with = descriptors.into_iter().next();
        }
    }
    Ok((what[0], with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_handed_over_with_what_it_is() {
        let (one, other) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        say(&one, LISTENER, Some(listener.as_fd())).unwrap();
        say(&one, ALL, None).unwrap();
        let (what, with) = hear(&other).unwrap();
        let got = TcpListener::from(with.unwrap());
        assert_eq!(
            (what, got.local_addr().unwrap()),
            (LISTENER, listener.local_addr().unwrap())
        );
        assert!(matches!(hear(&other).unwrap(), (ALL, None)));
        drop(one);
        assert!(hear(&other).is_err());
    }

    #[test]
    fn the_program_that_runs_is_no_newer_one() {
        assert_eq!(newer_program(), None);
    }
}
