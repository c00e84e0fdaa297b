//! What the loads connect to: threads of this process, on sockets of the internet's namespace.

use std::{
    io::Read,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use integration::Namespace;
use rustix::net::sockopt;

/// Accepts and closes.
pub(super) const CONNECT: u16 = 7000;
/// Accepts and keeps.
pub(super) const HOLD: u16 = 7300;
/// Reads and counts.
pub(super) const SINK: u16 = 7200;
/// Datagrams, counted.
pub(super) const BURST: u16 = 7100;

/// Counters of what arrived.
#[derive(Debug, Default)]
pub(super) struct Servers {
    pub(super) sunk: Arc<AtomicU64>,
    pub(super) datagrams: Arc<AtomicU64>,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

/// The listening threads stay; what they hold must not, since every subject's arena holds thousands.
impl Drop for Servers {
    fn drop(&mut self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Servers {
    /// Listens on `address`; the threads end with this process.
    pub(super) fn listen(namespace: &Namespace, address: IpAddr) -> Self {
        let servers = Self::default();
        let tcp =
            |port| namespace.enter(|| TcpListener::bind(SocketAddr::new(address, port)).expect("listen"));
        let connect = tcp(CONNECT);
        // std listens with a backlog of 128: too few for 32 clients that connect as fast as they can.
        rustix::net::listen(&connect, 4096).expect("lengthen the backlog");
        let hold = tcp(HOLD);
        rustix::net::listen(&hold, 4096).expect("lengthen the backlog");
        let sink = tcp(SINK);
        let burst = namespace.enter(|| UdpSocket::bind(SocketAddr::new(address, BURST)).expect("bind"));
        sockopt::set_socket_recv_buffer_size_force(&burst, 64 << 20).expect("enlarge a receive buffer");
        thread::spawn(move || connect.incoming().for_each(drop));
        let held = Arc::clone(&servers.held);
        thread::spawn(move || {
            for stream in hold.incoming().flatten() {
                held.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
        let sunk = Arc::clone(&servers.sunk);
        thread::spawn(move || swallow(&sink, &sunk));
        let datagrams = Arc::clone(&servers.datagrams);
        thread::spawn(move || {
            let mut octets = [0; 64];
            while burst.recv(&mut octets).is_ok() {
                datagrams.fetch_add(1, Ordering::Relaxed);
            }
        });
        servers
    }
}

fn swallow(sink: &TcpListener, sunk: &AtomicU64) {
    let mut buffer = vec![0; 1 << 18];
    for mut stream in sink.incoming().flatten() {
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 {
                break;
            }
            sunk.fetch_add(length as u64, Ordering::Relaxed);
        }
        let _gone = stream.shutdown(Shutdown::Both);
    }
}
