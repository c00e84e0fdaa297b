//! The harness itself: namespaces are apart, connected, and end with what they hold.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
};

use integration::{Namespace, PrivateBus, Running, eventually};

#[test]
fn two_namespaces_talk_over_their_link_in_both_families() {
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let link = Namespace::connect(&a, &b);
    for address in [std::net::IpAddr::from(link.b.v4), link.b.v6.into()] {
        let listener = b.enter(|| TcpListener::bind((address, 7000)).unwrap());
        let mut client = a.enter(|| TcpStream::connect((address, 7000)).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}

#[test]
fn a_namespace_ends_with_the_processes_inside() {
    let namespace = Namespace::new("end");
    let path = namespace.path();
    let sleeper = Running::start("sleep", {
        let mut command = namespace.command("sleep");
        command.arg("600");
        command
    });
    let process = format!("/proc/{}", sleeper.pid().as_raw_nonzero());
    assert!(path.exists());
    drop(namespace);
    assert!(!path.exists());
    drop(sleeper);
    assert!(!Path::new(&process).exists());
}

#[test]
fn the_namespace_is_not_the_machines_own() {
    let namespace = Namespace::new("own");
    let inside = namespace.sh("readlink /proc/self/ns/net");
    let outside = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(inside.trim(), outside.to_string_lossy());
    assert_eq!(
        namespace
            .sh("ls /sys/class/net >/dev/null; ip -o link | wc -l")
            .trim(),
        "1"
    );
}

#[test]
fn a_private_bus_answers_and_comes_back_at_the_same_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = PrivateBus::start(folder.path());
    let ask = |address: String| {
        let mut command = std::process::Command::new("dbus-send");
        command
            .arg(format!("--bus={address}"))
            .args(["--print-reply", "--dest=org.freedesktop.DBus", "/"]);
        command
            .arg("org.freedesktop.DBus.GetId")
            .output()
            .unwrap()
            .status
            .success()
    };
    let address = bus.address();
    assert!(ask(address.clone()));
    bus.kill();
    assert!(!ask(address.clone()));
    bus.restart();
    eventually("the bus answers again", || ask(address.clone()).then_some(()));
}
