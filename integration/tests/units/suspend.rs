//! A host that sleeps: all of its processes are frozen at once for longer than any watchdog, pid 1 among them, while others
//! go on sending. Worse than a real suspension, in which the monotonic clock stands still: here it goes on, so that systemd
//! wakes up to services that were silent for too long.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use integration::{Booted, Running, booted::INTERNET, eventually};

use super::{SERVICES, rules_stand};

/// `WatchdogSec=` is 10 s for the interceptor and 30 s for the others.
const ASLEEP: Duration = Duration::from_secs(35);
/// A SYN that was dropped is sent again after 1, 3, 7, 15, 31 and 63 s: whoever had to wait for the last is late.
const PATIENCE: Duration = Duration::from_secs(20);
/// Sends back what comes, by connections (port 7001) and datagrams (7002), until it is killed.
const SERVER: &str = r#"
import socket, threading
def echo(peer):
    while data := peer.recv(4096):
        peer.sendall(data)
def accept():
    listener = socket.create_server(("::", 7001), family=socket.AF_INET6, dualstack_ipv6=True)
    print("ready", flush=True)
    while True:
        threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
ear.bind(("::", 7002))
threading.Thread(target=accept, daemon=True).start()
while True:
    ear.sendto(*ear.recvfrom(4096))
"#;

fn serve(host: &Booted) -> Running {
    let mut command = host.command("python3");
    let mut server = Running::start("server", {
        command.args(["-c", SERVER]).stdout(Stdio::piped());
        command
    });
    let mut line = String::new();
    let out = server.child().stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    server
}

/// What is sent comes back.
fn echoes(stream: &mut TcpStream, what: &str) {
    let mut back = vec![0; what.len()];
    stream.write_all(what.as_bytes()).unwrap();
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, what.as_bytes());
}

fn datagram(host: &Booted, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = host.internet.enter(|| UdpSocket::bind(any)).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn frozen_for_longer_than_any_watchdog_loses_nothing_that_came_meanwhile() {
    let host = Booted::builder("asleep")
        .file(
            "/etc/portmaster/profiles.d/global.toml",
            "[settings]\nblock_incoming = false\n",
        )
        .start();
    let addresses: [IpAddr; 2] = [host.link.a.v4.into(), host.link.a.v6.into()];
    let _server = serve(&host);
    let connect = |address: IpAddr| TcpStream::connect_timeout(&(address, 7001).into(), ASLEEP + PATIENCE);
    let mut open = addresses.map(|address| host.internet.enter(|| connect(address)).unwrap());
    for stream in &mut open {
        echoes(stream, "before");
    }
    host.freeze();
    let datagrams: Vec<_> = addresses
        .iter()
        .map(|address| datagram(&host, (*address, 7002).into()))
        .collect();
    for socket in &datagrams {
        socket.send(b"asleep").unwrap();
    }
    let began = Instant::now();
    thread::scope(|scope| {
        let internet = &host.internet;
        let new: Vec<_> = addresses
            .map(|address| {
                scope.spawn(move || {
                    internet
                        .enter(|| connect(address))
                        .map(|stream| (stream, began.elapsed()))
                })
            })
            .into_iter()
            .collect();
        thread::sleep(ASLEEP);
        host.thaw();
        for (stream, socket) in open.iter_mut().zip(&datagrams) {
            echoes(stream, "after");
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut back = [0; 16];
            let length = socket.recv(&mut back).unwrap();
            assert_eq!(
                &back[..length],
                b"asleep",
                "sent once, and kept in the kernel's queue meanwhile"
            );
        }
        for connecting in new {
            let (mut stream, took) = connecting.join().unwrap().unwrap();
            assert!(took > ASLEEP, "nobody was there to decide");
            echoes(&mut stream, "new");
        }
    });
    // systemd wakes up to find that some have not been heard of for too long; it ends those whose word it reads too late, and
    // they are back at once
    for (unit, _) in SERVICES {
        host.wait_for(unit, "active");
        let restarts = host.property(unit, "NRestarts");
        assert!(
            ["0", "1"].contains(&restarts.as_str()),
            "{unit}: {restarts} restarts"
        );
    }
    eventually("all services are healthy", || {
        host.attempt("portmaster status").status.success().then_some(())
    });
    assert!(rules_stand(&host));
}

#[test]
fn each_service_that_hangs_is_ended_by_its_watchdog_and_comes_back() {
    let host = Booted::start("hangs");
    // the interceptor: integration/tests/restart/endings.rs
    let units: Vec<_> = SERVICES.iter().map(|(unit, _)| *unit).skip(1).collect();
    let pid = |unit: &&str| host.property(unit, "MainPID");
    let before: Vec<_> = units.iter().map(pid).collect();
    host.systemctl(&format!(
        "kill --signal=STOP --kill-whom=main {}",
        units.join(" ")
    ));
    // WatchdogSec=30s, and TimeoutStopSec=10s until the signal that cannot be held up
    thread::sleep(Duration::from_secs(40));
    for (unit, before) in units.iter().zip(&before) {
        eventually(&format!("{unit} is back"), || {
            let back =
                host.property(unit, "MainPID") != *before && host.property(unit, "ActiveState") == "active";
            back.then_some(())
        });
        assert!(host.journal(unit).contains("Watchdog timeout"), "{unit}");
        assert_eq!(host.property(unit, "NRestarts"), "1", "{unit}");
    }
    let server = host.internet.echo(INTERNET.0, 7);
    host.run(&format!("nc -z -w 5 {} {}", server.ip(), server.port()));
}
