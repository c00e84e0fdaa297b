//! Servers of the other side.

use std::{
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::mpsc::{self, Receiver},
    thread,
};

use crate::Namespace;

impl Namespace {
    /// A TCP server inside that sends every line back. It ends with the test.
    ///
    /// # Panics
    /// If it cannot listen.
    pub fn echo(&self, address: impl Into<IpAddr>, port: u16) -> SocketAddr {
        let address = SocketAddr::new(address.into(), port);
        let listener = self.enter(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let Ok(mut back) = stream.try_clone() else { return };
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        if back.write_all(format!("{line}\n").as_bytes()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    /// A UDP socket inside that hands over what it receives.
    ///
    /// # Panics
    /// If it cannot be bound.
    pub fn datagrams(&self, address: impl Into<IpAddr>, port: u16) -> (SocketAddr, Receiver<Vec<u8>>) {
        let address = SocketAddr::new(address.into(), port);
        let socket = self.enter(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let (tell, received) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(length) = socket.recv(&mut buffer) {
                if tell
                    .send(buffer.get(..length).unwrap_or_default().to_vec())
                    .is_err()
                {
                    break;
                }
            }
        });
        (address, received)
    }
}
