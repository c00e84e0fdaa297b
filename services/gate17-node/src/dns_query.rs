//! Names asked at the exit (RFC 8484): a message goes to the resolver as it is, and its answer comes back as it is.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::dial::Failure;

/// Of a message, over TCP.
pub const LARGEST: usize = 65_535;
/// Header of a message.
const HEADER: usize = 12;
/// "More than fits": in the third octet (RFC 1035, section 4.1.1).
const TRUNCATED: u8 = 0x02;
const PATIENCE: Duration = Duration::from_secs(2);

/// The first server of `/etc/resolv.conf`.
pub fn of_system() -> Option<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").ok()?;
    let server = |line: &str| {
        let address: IpAddr = line.strip_prefix("nameserver")?.trim().parse().ok()?;
        Some((address, 53).into())
    };
    text.lines().find_map(server)
}

/// Asks by UDP, twice, and by TCP where the answer does not fit.
///
/// # Errors
/// Where nothing comes back.
pub async fn ask(resolver: SocketAddr, question: &[u8]) -> Result<Bytes, Failure> {
    if question.len() < HEADER || question.len() > LARGEST {
        return Err(Failure::Denied);
    }
    for _ in 0..2 {
        match timeout(PATIENCE, by_udp(resolver, question)).await {
            Ok(Ok(answer)) if answer.get(2).is_some_and(|flags| flags & TRUNCATED == 0) => return Ok(answer),
            Ok(Ok(_)) => break,
            Ok(Err(_)) | Err(_) => {}
        }
    }
    match timeout(PATIENCE, by_tcp(resolver, question)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Failure::Name),
        Err(_) => Err(Failure::TimedOut),
    }
}

async fn by_udp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Bytes> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // a new port for each: nobody can guess it; the client's id may be 0 (RFC 8484), the wire has one of its own
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    let id: [u8; 2] = rand::random();
    let mut sent = question.to_vec();
    if let Some(place) = sent.get_mut(..2) {
        place.copy_from_slice(&id);
    }
    socket.send(&sent).await?;
    let mut answer = vec![0; LARGEST];
    loop {
        let count = socket.recv(&mut answer).await?;
        if count >= HEADER && answer.get(..2) == Some(id.as_slice()) {
            answer.truncate(count);
            if let (Some(place), Some(own)) = (answer.get_mut(..2), question.get(..2)) {
                place.copy_from_slice(own);
            }
            return Ok(answer.into());
        }
    }
}

async fn by_tcp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Bytes> {
    let mut connection = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).unwrap_or(u16::MAX);
    let framed = [length.to_be_bytes().as_slice(), question].concat();
    connection.write_all(&framed).await?;
    let mut answer = vec![0; connection.read_u16().await?.into()];
    connection.read_exact(&mut answer).await?;
    Ok(answer.into())
}
