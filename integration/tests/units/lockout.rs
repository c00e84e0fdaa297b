//! The first start cuts nobody off, also where everything is blocked.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use integration::{Booted, eventually};

const CLOSED: &str = "[settings]\ndefault_action = \"block\"\n";

fn connect(host: &Booted, port: u16) -> Option<TcpStream> {
    let address = SocketAddr::from((host.link.a.v4, port));
    host.internet.enter(|| {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        Some(stream)
    })
}

fn says(stream: &mut TcpStream) -> String {
    let mut said = [0; 256];
    let length = stream.read(&mut said).unwrap();
    String::from_utf8_lossy(&said[..length]).into_owned()
}

#[test]
fn an_ssh_session_outlives_the_first_start_and_others_come_in() {
    let host = Booted::builder("ssh")
        .file("/etc/portmaster/profiles.d/global.toml", CLOSED)
        // sshd asks for the name of who calls: no server is as quick an answer as any
        .file("/etc/resolv.conf", "nameserver 127.0.0.1\n")
        .disabled()
        .start();
    host.run("systemctl start ssh.service; nc -lk 8080 >/dev/null 2>&1 </dev/null & sleep 0.2");
    let mut session = eventually("sshd listens", || connect(&host, 22));
    assert!(says(&mut session).starts_with("SSH-2.0-"));
    assert!(connect(&host, 8080).is_some(), "nothing is refused yet");
    host.systemctl("start portmaster.target");
    // its answer is the key exchange
    session.write_all(b"SSH-2.0-still-here\r\n").unwrap();
    assert!(!says(&mut session).is_empty(), "the session was cut off");
    let mut another = connect(&host, 22).expect("a new session");
    assert!(says(&mut another).starts_with("SSH-2.0-"));
    assert!(connect(&host, 8080).is_none(), "nobody else is let in");
}

#[test]
fn what_a_host_lives_by_is_allowed_where_all_else_is_blocked() {
    let host = Booted::builder("closed")
        .file("/etc/portmaster/profiles.d/global.toml", CLOSED)
        .start();
    let explain = |program: &str, protocol: &str, to: &str| {
        let script = format!("portmaster explain --program {program} --protocol {protocol} --to {to}");
        integration::booted::text(&host.attempt(&script))
    };
    for (program, protocol, to) in [
        ("/usr/lib/systemd/systemd-timesyncd", "udp", "198.51.100.1:123"),
        ("/usr/lib/systemd/systemd-resolved", "udp", "198.51.100.1:53"),
        ("/usr/lib/systemd/systemd-resolved", "tcp", "198.51.100.1:853"),
    ] {
        let said = explain(program, protocol, to);
        assert!(said.contains("allow"), "{program} {to}: {said}");
    }
    for (program, protocol, to) in [
        ("/usr/bin/curl", "tcp", "198.51.100.1:443"),
        ("/usr/lib/systemd/systemd-timesyncd", "tcp", "198.51.100.1:443"),
    ] {
        let said = explain(program, protocol, to);
        assert!(said.contains("block"), "{program} {to}: {said}");
    }
}
