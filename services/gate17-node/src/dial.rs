//! Connections to others: names resolved, addresses judged by the exit policy, attempts staggered (RFC 8305).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use gate17_proto::{
    exit::Transport,
    target::{Host, Target},
};
use http::StatusCode;
use rustix::io::Errno;
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{sleep, timeout},
};

use crate::node::Node;

/// Why there is no connection; the words of RFC 9209, section 2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The other end does not want it.
    #[error("connection_refused")]
    Refused,
    /// No way there.
    #[error("destination_unavailable")]
    Unreachable,
    /// No answer in time.
    #[error("connection_timeout")]
    TimedOut,
    /// The name has no address.
    #[error("dns_error")]
    Name,
    /// This node's rules are against it.
    #[error("destination_ip_prohibited")]
    Prohibited,
    /// The request is none.
    #[error("http_request_denied")]
    Denied,
    /// Too many.
    #[error("connection_limit_reached")]
    Limit,
    /// This node's own trouble.
    #[error("proxy_internal_error")]
    Internal,
}

impl Failure {
    /// Of the answer to `CONNECT`.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Refused | Self::Unreachable | Self::Name => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Prohibited | Self::Denied => StatusCode::FORBIDDEN,
            Self::Limit => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// `Proxy-Status`.
    pub fn proxy_status(self) -> String {
        format!("gate17; error={self}")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
                    Self::Limit
                }
                Some(Errno::PERM | Errno::ACCESS) => Self::Prohibited,
                _ => Self::Unreachable,
            },
        }
    }
}

/// Before the next address is tried as well (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);
/// Of a name; more are not tried.
const ADDRESSES: usize = 8;

/// Connects to a target, by the node's rules.
///
/// # Errors
/// Of the last address tried.
pub async fn connect(node: &Node, target: &Target) -> Result<TcpStream, Failure> {
    let open = async {
        let addresses = allowed(node, target, Transport::Tcp).await?;
        race(addresses).await
    };
    timeout(Duration::from_secs(node.limits.bounds().connect), open)
        .await
        .unwrap_or(Err(Failure::TimedOut))
}

/// A socket for datagrams to a target and back, from nobody else.
///
/// # Errors
/// As [`connect`].
pub async fn connect_udp(node: &Node, target: &Target) -> Result<UdpSocket, Failure> {
    let open = async {
        let addresses = allowed(node, target, Transport::Udp).await?;
        let mut last = Failure::Unreachable;
        for address in addresses {
            match datagrams_to(address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    };
    timeout(Duration::from_secs(node.limits.bounds().connect), open)
        .await
        .unwrap_or(Err(Failure::TimedOut))
}

async fn datagrams_to(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Addresses of a host, both families by turns, as far as they are allowed.
async fn allowed(node: &Node, target: &Target, transport: Transport) -> Result<Vec<SocketAddr>, Failure> {
    let found: Vec<SocketAddr> = match &target.host {
        Host::V4(address) => vec![(*address, target.port).into()],
        Host::V6(address) => vec![(IpAddr::from(*address).to_canonical(), target.port).into()],
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), target.port)).await;
            by_turns(found.map_err(|_| Failure::Name)?)
        }
    };
    if found.is_empty() {
        return Err(Failure::Name);
    }
    let mut allowed = Vec::new();
    for address in found {
        if node.known.allows(address, transport) && !is_never(address.ip()) && !is_own(address).await {
            allowed.push(address);
        }
    }
    if allowed.is_empty() {
        return Err(Failure::Prohibited);
    }
    Ok(allowed)
}

/// No rule leads to the node's own host, or to its link's.
const fn is_never(to: IpAddr) -> bool {
    match to {
        IpAddr::V4(to) => to.is_loopback() || to.is_link_local(),
        IpAddr::V6(to) => to.is_loopback() || to.is_unicast_link_local(),
    }
}

/// Whether the kernel would talk to itself: the source it chooses is the destination. Nobody reaches the node's own
/// services by way of the node, and no circuit leads back into it.
async fn is_own(address: SocketAddr) -> bool {
    match datagrams_to(address).await.and_then(|socket| socket.local_addr()) {
        Ok(local) => local.ip() == address.ip(),
        // no way there: the attempt will say so
        Err(_) => false,
    }
}

fn by_turns(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut v6, mut v4) = (Vec::new(), Vec::new());
    for address in found {
        match address {
            SocketAddr::V6(_) => v6.push(address),
            SocketAddr::V4(_) => v4.push(address),
        }
    }
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] || turns.len() >= ADDRESSES {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, Failure> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = Failure::Unreachable;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(last);
        }
        let next = async {
            if waiting.len() == 0 {
                std::future::pending::<()>().await;
            } else {
                sleep(STAGGER).await;
            }
        };
        tokio::select! {
            ended = attempts.next() => match ended {
                Some(Ok(stream)) => {
                    // small messages go at once
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(error)) => last = error.into(),
                None => {}
            },
            () = next => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_tried_by_turns() {
        let of =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let found = of(&["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"]);
        let turns = of(&["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        assert_eq!(by_turns(found.into_iter()), turns);
    }

    #[tokio::test]
    async fn an_own_address_is_known() {
        assert!(is_own("127.0.0.1:80".parse().unwrap()).await);
    }

    #[test]
    fn kernel_errors_have_a_meaning() {
        for (errno, failure) in [
            (Errno::CONNREFUSED, Failure::Refused),
            (Errno::HOSTUNREACH, Failure::Unreachable),
            (Errno::TIMEDOUT, Failure::TimedOut),
            (Errno::MFILE, Failure::Limit),
        ] {
            assert_eq!(Failure::from(io::Error::from(errno)), failure);
        }
    }
}
