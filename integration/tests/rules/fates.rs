//! What each mark does to a packet.

use std::{io::ErrorKind, net::IpAddr};

use interceptor::firewall::{BackendChoice, Config, RejectTcp};
use rustix::io::Errno;
use verdict::{Mark, mark::MarkScheme};

use crate::{
    decider::Kind,
    host::{BACKENDS, Host, PATIENCE, SILENCE, config, echo, talk},
};

const ONCE: u16 = 8701;
const FOR_GOOD: u16 = 8711;

fn prohibited(to: IpAddr) -> Errno {
    if to.is_ipv4() {
        Errno::HOSTUNREACH
    } else {
        Errno::ACCESS
    }
}

fn errno(error: &std::io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[test]
fn a_blocked_connection_is_refused_and_a_datagram_is_prohibited() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for to in host.remotes() {
            for port in [ONCE, FOR_GOOD] {
                let error = host.connect(to, port, PATIENCE).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to} {port}");
                assert_eq!(datagram(&host, to, port), Some(prohibited(to)), "{to} {port}");
            }
        }
    }
}

#[test]
fn a_blocked_connection_can_be_prohibited_as_well() {
    for backend in BACKENDS {
        let host = Host::new(&Config {
            reject_tcp_with: RejectTcp::Icmp,
            ..config(backend)
        });
        for to in host.remotes() {
            for port in [ONCE, FOR_GOOD] {
                let error = host.connect(to, port, PATIENCE).unwrap_err();
                assert_eq!(errno(&error), Some(prohibited(to)), "{to} {port}");
                assert_eq!(datagram(&host, to, port), Some(prohibited(to)), "{to} {port}");
            }
        }
    }
}

/// What a program hears that sends one.
fn datagram(host: &Host, to: IpAddr, port: u16) -> Option<Errno> {
    let udp = host.udp(to, port);
    udp.send(b"x").unwrap();
    errno(&udp.recv(&mut [0]).unwrap_err())
}

#[test]
fn a_dropped_connection_hears_nothing() {
    let host = Host::new(&config(BackendChoice::Nft));
    for to in host.remotes() {
        for port in [8702, 8712] {
            let error = host.connect(to, port, SILENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to} {port}");
        }
    }
}

#[test]
fn an_allowed_connection_is_asked_about_once_and_a_packet_each_time() {
    for backend in BACKENDS {
        let host = Host::new(&config(backend));
        for (turn, to) in (1..).zip(host.remotes()) {
            for port in [8710, 8700] {
                echo(&host.internet, to, port);
                let mut stream = host.connect(to, port, PATIENCE).unwrap();
                (0..5).for_each(|_| talk(&mut stream));
            }
            assert_eq!(host.decider().asked(Kind::Port(8710)), turn, "{to}");
            assert!(host.decider().asked(Kind::Port(8700)) >= turn * 10, "{to}");
        }
    }
}

#[test]
fn a_connection_over_loopback_is_asked_about_once() {
    let host = Host::new(&config(BackendChoice::Nft));
    for (turn, to) in (1..).zip(["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]) {
        echo(&host.host, to, 8710);
        let mut stream = host.connect(to, 8710, PATIENCE).unwrap();
        talk(&mut stream);
        assert_eq!(host.decider().asked(Kind::Port(8710)), turn, "{to}");
    }
}

#[test]
fn an_incoming_connection_is_asked_about_and_can_be_refused() {
    let host = Host::new(&config(BackendChoice::Nft));
    for (address, family) in [(IpAddr::from(host.link.a.v4), 0), (host.link.a.v6.into(), 1)] {
        echo(&host.host, address, 8710);
        echo(&host.host, address, 8712);
        let from_outside = |port, patience| {
            host.internet
                .enter(|| std::net::TcpStream::connect_timeout(&(address, port).into(), patience))
        };
        talk(&mut from_outside(8710, PATIENCE).unwrap());
        assert_eq!(host.decider().asked(Kind::Port(8710)), 1 + family, "{address}");
        assert_eq!(
            from_outside(8712, SILENCE).unwrap_err().kind(),
            ErrorKind::TimedOut,
            "{address}"
        );
    }
}

#[test]
fn without_anybody_who_decides_the_new_fails_and_the_old_goes_on() {
    for backend in BACKENDS {
        let mut host = Host::new(&config(backend));
        let mut streams = Vec::new();
        for to in host.remotes() {
            echo(&host.internet, to, 8710);
            let mut stream = host.connect(to, 8710, PATIENCE).unwrap();
            talk(&mut stream);
            streams.push(stream);
        }
        host.stop_deciding();
        for (mut stream, to) in streams.into_iter().zip(host.remotes()) {
            talk(&mut stream);
            assert_eq!(
                host.connect(to, 8710, SILENCE).unwrap_err().kind(),
                ErrorKind::TimedOut,
                "{to}"
            );
            assert_eq!(
                errno(&host.udp(to, 8710).send(b"x").unwrap_err()),
                Some(Errno::PERM),
                "{to}"
            );
        }
    }
}

#[test]
fn fragments_are_one_question_in_both_directions() {
    let host = Host::new(&config(BackendChoice::Nft));
    for (turn, to) in (1..).zip(host.remotes()) {
        echo(&host.internet, to, 8710);
        let socket = host.udp(to, 8710);
        let datagram = vec![7; 20_000];
        socket.send(&datagram).unwrap();
        let mut answer = vec![0; 65_536];
        assert_eq!(socket.recv(&mut answer).unwrap(), datagram.len(), "{to}");
        assert_eq!(host.decider().asked(Kind::Port(8710)), turn, "{to}");

        let address: IpAddr = if to.is_ipv4() {
            host.link.a.v4.into()
        } else {
            host.link.a.v6.into()
        };
        echo(&host.host, address, 8700);
        let outside = host.internet.enter(|| {
            let socket = std::net::UdpSocket::bind((to, 0)).unwrap();
            socket.connect((address, 8700)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        outside.send(&datagram).unwrap();
        assert_eq!(outside.recv(&mut answer).unwrap(), datagram.len(), "{to}");
        assert_eq!(
            host.decider().asked(Kind::Port(8700)),
            2 * turn,
            "the question and its answer, {to}"
        );
    }
}

#[test]
fn neighbours_are_found_without_a_question() {
    let host = Host::new(&config(BackendChoice::Nft));
    host.decider().mark_icmp(Mark::DROP);
    host.host
        .sh(&format!("ip -6 neigh flush dev {}", host.link.interface));
    let to = host.link.b.v6.into();
    echo(&host.internet, to, 8710);
    talk(&mut host.connect(to, 8710, PATIENCE).unwrap());
    for kind in 133..=137 {
        assert_eq!(host.decider().asked(Kind::Icmp(kind)), 0, "type {kind}");
    }
}

#[test]
fn an_allowed_connection_keeps_the_marks_of_others() {
    let foreign = "-m mark --mark 0xca6c";
    let masked = MarkScheme::new(0x07ff_0000, 16).unwrap();
    for (keep, scheme, test) in [
        (true, MarkScheme::default(), foreign),
        (false, MarkScheme::default(), foreign),
        (true, masked, "-m mark --mark 0xca6c/0xffff"),
        (false, masked, "-m mark --mark 0xca6c/0xffff"),
    ] {
        let config = Config {
            keep_foreign_marks: keep,
            ..config(BackendChoice::Nft)
        };
        let host = Host::with_scheme(&config, scheme);
        for (turn, to) in (1..).zip(host.remotes()) {
            echo(&host.internet, to, 8710);
            let program = if to.is_ipv4() {
                "iptables-nft"
            } else {
                "ip6tables-nft"
            };
            host.host.sh(&format!(
                "{program} -t raw -A OUTPUT -p tcp --dport 8710 -j MARK --set-mark 0xca6c"
            ));
            host.count(&host.host, to, "mangle", "POSTROUTING", test);
            let mut stream = host.connect(to, 8710, PATIENCE).unwrap();
            (0..3).for_each(|_| talk(&mut stream));
            let kept = host.counted(&host.host, to, "mangle", "POSTROUTING") > 0;
            assert_eq!(kept, keep || scheme == masked, "{to}");
            assert_eq!(host.decider().asked(Kind::Port(8710)), turn, "{to}");
            let error = host.connect(to, FOR_GOOD, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
    }
}
