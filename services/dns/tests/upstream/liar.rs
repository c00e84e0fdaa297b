//! A server that answers over UDP and TCP as a test wants.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};

type Answer = dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync;

/// Stops when it is dropped.
pub(crate) struct Liar {
    pub(crate) address: SocketAddr,
    pub(crate) over_udp: Arc<AtomicUsize>,
    pub(crate) over_tcp: Arc<AtomicUsize>,
    pub(crate) connections: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Liar {
    /// `udp` and `tcp` say which messages, none or several, answer a query.
    pub(crate) async fn start<U, T>(udp: U, tcp: T) -> Self
    where
        U: Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
        T: Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    {
        let (socket, listener) = sockets().await;
        let address = socket.local_addr().unwrap();
        let counts: [Arc<AtomicUsize>; 3] = Default::default();
        let [over_udp, over_tcp, connections] = counts;
        let tasks = vec![
            tokio::spawn(serve_udp(socket, Box::new(udp), Arc::clone(&over_udp))),
            tokio::spawn(serve_tcp(
                listener,
                Arc::new(tcp),
                Arc::clone(&over_tcp),
                Arc::clone(&connections),
            )),
        ];
        Self {
            address,
            over_udp,
            over_tcp,
            connections,
            tasks,
        }
    }

    /// Honest over TCP.
    pub(crate) async fn over_udp<U>(udp: U) -> Self
    where
        U: Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    {
        Self::start(udp, |query| vec![answer(query, [192, 0, 2, 99])]).await
    }
}

/// A UDP socket and a TCP listener on the same free port.
async fn sockets() -> (UdpSocket, TcpListener) {
    let local = IpAddr::from([127, 0, 0, 1]);
    loop {
        let socket = UdpSocket::bind((local, 0)).await.unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()).await {
            return (socket, listener);
        }
    }
}

async fn serve_udp(socket: UdpSocket, answer: Box<Answer>, count: Arc<AtomicUsize>) {
    let mut bytes = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
        count.fetch_add(1, Ordering::SeqCst);
        for message in answer(&bytes[..length]) {
            socket.send_to(&message, from).await.unwrap();
        }
    }
}

async fn serve_tcp(
    listener: TcpListener,
    answer: Arc<Answer>,
    count: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(serve_connection(stream, Arc::clone(&answer), Arc::clone(&count)));
    }
}

async fn serve_connection(mut stream: TcpStream, answer: Arc<Answer>, count: Arc<AtomicUsize>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.unwrap();
        count.fetch_add(1, Ordering::SeqCst);
        for message in answer(&query) {
            // An empty message stands for hanging up.
            if message.is_empty() {
                return;
            }
            stream
                .write_u16(u16::try_from(message.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&message).await.unwrap();
        }
    }
}

/// The bytes of header and question.
pub(crate) fn question_end(query: &[u8]) -> usize {
    12 + dns_core::name::length_of(&query[12..]).unwrap() + 4
}

/// An honest answer: one address, no EDNS.
pub(crate) fn answer(query: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut message = query[..question_end(query)].to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[4..12].copy_from_slice(&[0, 1, 0, 1, 0, 0, 0, 0]);
    message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    message.extend_from_slice(&address);
    message
}

/// The same answer with an EDNS option.
pub(crate) fn with_option(mut message: Vec<u8>, code: u16, content: &[u8], code_high: u8) -> Vec<u8> {
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41, 4, 208, code_high, 0, 0, 0]);
    let length = u16::try_from(content.len()).unwrap();
    message.extend_from_slice(&(length + 4).to_be_bytes());
    message.extend_from_slice(&code.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(content);
    message
}

/// The content of the COOKIE option of a query.
pub(crate) fn cookie_of(query: &[u8]) -> Option<Vec<u8>> {
    let mut rest = query.get(question_end(query) + 11..)?;
    while let [code0, code1, length0, length1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*length0, *length1]));
        if (*code0, *code1) == (0, 10) {
            return Some(tail[..length].to_vec());
        }
        rest = &tail[length..];
    }
    None
}

/// Some answer without records, with this code.
pub(crate) fn refusal(query: &[u8], code: u8) -> Vec<u8> {
    let mut message = query[..question_end(query)].to_vec();
    message[2] = 0x81;
    message[3] = 0x80 | code;
    message[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    message
}
