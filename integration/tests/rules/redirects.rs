//! Connections that go elsewhere: into Gate17, or to the local DNS server.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsRawFd,
    thread,
    time::Duration,
};

use integration::{Namespace, eventually};
use interceptor::firewall::BackendChoice;
use rustix::net::sockopt;
use verdict::Mark;

use crate::{
    decider::Kind,
    host::{BACKENDS, Host, PATIENCE, SILENCE, any, config, talk},
};

const TUNNEL: u16 = 8717;

fn entry(to: IpAddr) -> IpAddr {
    if to.is_ipv4() {
        "127.0.0.17".parse().unwrap()
    } else {
        "::1".parse().unwrap()
    }
}

fn listen(namespace: &Namespace, at: IpAddr, port: u16) -> TcpListener {
    namespace.enter(|| TcpListener::bind((at, port)).unwrap())
}

fn listen_udp(namespace: &Namespace, at: IpAddr, port: u16) -> UdpSocket {
    let socket = namespace.enter(|| UdpSocket::bind((at, port)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_tunnelled_connection_reaches_the_entry_and_says_where_it_wanted_to_go() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for to in host.remotes() {
            let entry = listen(&host.host, entry(to), 717);
            let client = host.connect(to, TUNNEL, PATIENCE).unwrap();
            let (server, from) = entry.accept().unwrap();
            assert_eq!(from, client.local_addr().unwrap(), "the program's own address");
            let wanted: SocketAddr = match to {
                IpAddr::V4(_) => sockopt::ip_original_dst(&server).unwrap().into(),
                IpAddr::V6(_) => sockopt::ipv6_original_dst(&server).unwrap().into(),
            };
            assert_eq!((wanted.ip(), wanted.port()), (to, TUNNEL));
        }
        assert_eq!(host.decider().asked(Kind::Port(TUNNEL)), 2);
    }
}

#[test]
fn a_tunnelled_datagram_reaches_the_entry_and_its_answer_comes_from_afar() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for to in host.remotes() {
            let entry = listen_udp(&host.host, entry(to), 717);
            let client = host.host.enter(|| UdpSocket::bind((any(to), 0)).unwrap());
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.send_to(b"question", (to, TUNNEL)).unwrap();
            let mut buffer = [0; 64];
            let (length, from) = entry.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"question");
            entry.send_to(b"answer", from).unwrap();
            let (length, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..length], from),
                (&b"answer"[..], SocketAddr::new(to, TUNNEL))
            );
        }
    }
}

#[test]
fn a_stray_query_reaches_the_local_server_over_udp_and_tcp() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for to in host.remotes() {
            let local: IpAddr = if to.is_ipv4() { "127.0.0.1" } else { "::1" }.parse().unwrap();
            let (tcp, udp) = (listen(&host.host, local, 53), listen_udp(&host.host, local, 53));
            let _client = host.connect(to, 53, PATIENCE).unwrap();
            tcp.accept().unwrap();
            let client = host.udp(to, 53);
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let (length, from) = udp.recv_from(&mut buffer).unwrap();
            udp.send_to(&buffer[..length], from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), b"question".len());
        }
    }
}

#[test]
fn without_an_entry_a_tunnelled_connection_fails_and_nothing_leaves() {
    let host = Host::new(&config(BackendChoice::Nft));
    for to in host.remotes() {
        host.count(&host.internet, to, "raw", "PREROUTING", "-p tcp");
        let error = host.connect(to, TUNNEL, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        assert_eq!(host.counted(&host.internet, to, "raw", "PREROUTING"), 0, "{to}");
    }
}

#[test]
fn a_socket_bound_to_a_device_leaks_nothing() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for to in host.remotes() {
            let _entry = listen(&host.host, entry(to), 717);
            for protocol in ["tcp", "udp"] {
                host.count(&host.internet, to, "raw", "PREROUTING", &format!("-p {protocol}"));
            }
            let family = if to.is_ipv4() { 4 } else { 6 };
            let script = format!(
                "for port in {TUNNEL} 53; do timeout 1.5 curl -{family} -s --interface {} --connect-timeout 1 http://{}/ \
                 && exit 1; done; exit 0",
                host.link.interface,
                SocketAddr::new(to, TUNNEL)
                    .to_string()
                    .replace(&TUNNEL.to_string(), "$port"),
            );
            host.host.sh(&script);
            let udp = host.udp(to, TUNNEL);
            bind_to_device(&udp, &host.link.interface);
            let before = host.decider().asked(Kind::Port(TUNNEL));
            udp.send(b"secret").unwrap();
            eventually("the datagram is asked about", || {
                (host.decider().asked(Kind::Port(TUNNEL)) > before).then_some(())
            });
            thread::sleep(Duration::from_millis(200)); // what leaks is on the wire within microseconds
            assert_eq!(host.counted(&host.internet, to, "raw", "PREROUTING"), 0, "{to}");
        }
    }
}

#[expect(unsafe_code, reason = "SO_BINDTODEVICE has no safe wrapper in rustix")]
fn bind_to_device(socket: &UdpSocket, device: &str) {
    let length = libc::socklen_t::try_from(device.len()).unwrap();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
    // SAFETY: the descriptor is open, and the pointer is valid for `length` octets during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, device.as_ptr().cast(), length) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_ping_that_was_to_be_tunnelled_is_not_answered_by_this_host() {
    let host = Host::new(&config(BackendChoice::Nft));
    host.decider().mark_icmp(Mark::TUNNEL);
    for to in host.remotes() {
        host.count(&host.internet, to, "raw", "PREROUTING", "-m length --length 400:");
        host.host.sh(&format!("! ping -c 1 -W 1 -s 400 {to}"));
        assert_eq!(host.counted(&host.internet, to, "raw", "PREROUTING"), 0, "{to}");
    }
}

#[test]
fn connections_beside_the_tunnel_are_not_touched() {
    let host = Host::new(&config(BackendChoice::Nft));
    for to in host.remotes() {
        crate::host::echo(&host.internet, to, 8710);
        let tunnelled = host.connect(to, TUNNEL, SILENCE);
        assert!(tunnelled.is_err());
        talk(&mut host.connect(to, 8710, PATIENCE).unwrap());
    }
}
