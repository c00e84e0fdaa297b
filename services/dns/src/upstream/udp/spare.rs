//! Sockets that have served, and may serve another question for a moment.
//!
//! A new socket costs five system calls, and a firewall's look at its first packet. An old one has a port that somebody may have
//! found: so it serves for a second at most, which is no longer than a single question may wait, never two questions at once, and
//! no more after anything came to it that did not fit.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

use tokio::net::UdpSocket;

/// From its making.
const SERVES: Duration = Duration::from_secs(1);
/// That nobody uses.
const MOST: usize = 64;

/// Of one server.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<Taken>>);

/// A connected socket.
#[derive(Debug)]
pub(super) struct Taken {
    socket: UdpSocket,
    target: SocketAddr,
    /// Whose runtime it belongs to: another one would have to be woken by that.
    thread: ThreadId,
    until: Duration,
}

impl Taken {
    pub(super) const fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

impl Spares {
    /// One that is connected to `target`.
    pub(super) async fn take(&self, target: SocketAddr, now: Duration) -> io::Result<Taken> {
        let thread = thread::current().id();
        while let Some(taken) = self.spare(target, thread, now) {
            // what has come to it meanwhile fits nothing
            let is_clean = taken.socket.try_recv(&mut [0; 1]);
            if is_clean.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return Ok(taken);
            }
        }
        let any = match target.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(target).await?;
        Ok(Taken {
            socket,
            target,
            thread,
            until: now + SERVES,
        })
    }

    fn spare(&self, target: SocketAddr, thread: ThreadId, now: Duration) -> Option<Taken> {
        let mut all = self.lock();
        all.retain(|spare| spare.until > now);
        let at = all
            .iter()
            .position(|spare| spare.target == target && spare.thread == thread)?;
        Some(all.swap_remove(at))
    }

    /// It has served, and nothing came to it but the answer.
    pub(super) fn give_back(&self, taken: Taken) {
        let mut all = self.lock();
        if all.len() < MOST {
            all.push(taken);
        }
    }

    /// Leaves all of them.
    pub(super) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn port(taken: &Taken) -> u16 {
        taken.socket.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_socket_serves_one_question_at_a_time_and_for_a_second() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (target, spares) = (server.local_addr().unwrap(), Spares::default());
        let first = spares.take(target, NOW).await.unwrap();
        let second = spares.take(target, NOW).await.unwrap();
        assert_ne!(port(&first), port(&second));
        let known = port(&first);
        spares.give_back(first);
        let again = spares.take(target, NOW + SERVES / 2).await.unwrap();
        assert_eq!(port(&again), known);
        spares.give_back(again);
        // both are open, so that the kernel gives another port
        let later = spares.take(target, NOW + SERVES).await.unwrap();
        assert!(spares.lock().is_empty() && later.until == NOW + SERVES * 2);
        spares.give_back(later);
        spares.close();
        assert!(spares.lock().is_empty());
    }

    #[tokio::test]
    async fn a_socket_to_which_more_came_serves_no_more() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (target, spares) = (server.local_addr().unwrap(), Spares::default());
        let taken = spares.take(target, NOW).await.unwrap();
        let known = port(&taken);
        server.send_to(b"a guess", ("127.0.0.1", known)).await.unwrap();
        taken.socket.readable().await.unwrap();
        let other = spares.take(target, NOW).await.unwrap();
        let usual = port(&other);
        spares.give_back(taken);
        spares.give_back(other);
        assert_eq!(port(&spares.take(target, NOW).await.unwrap()), usual);
        assert!(spares.lock().is_empty());
    }
}
