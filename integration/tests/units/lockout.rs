//! The first start cuts nobody off, also where everything is blocked.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use integration::{Booted, eventually};

use crate::rules_stand;

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
    String::from_utf8_lossy(said.get(..length).unwrap()).into_owned()
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

#[test]
fn a_start_that_nobody_confirms_goes_back() {
    let host = Booted::builder("confirm").disabled().start();
    host.run("portmaster start --confirm 5");
    assert_eq!(host.property("portmaster.target", "ActiveState"), "active");
    assert!(rules_stand(&host));
    host.wait_for("portmaster.target", "inactive");
    eventually("the rules are gone, one family after the other", || {
        let rules = host.run("iptables-save; ip6tables-save");
        (!rules.contains("C17")).then_some(())
    });
    // while it goes back, and when it has
    assert!(!host.attempt("portmaster confirm").status.success());
    let said = eventually("nothing waits any more", || {
        let said = integration::booted::text(&host.attempt("portmaster confirm"));
        (!said.contains("too late")).then_some(said)
    });
    assert!(said.contains("nothing waits for a confirmation"), "{said}");
}

#[test]
fn a_start_that_is_confirmed_stays_until_it_is_stopped() {
    let host = Booted::builder("confirm").disabled().start();
    let said = |script: &str| integration::booted::text(&host.attempt(script));
    let remedy = "`portmaster start` starts it";
    assert!(said("portmaster status").contains(remedy));
    host.run("portmaster start --confirm 5; portmaster confirm; sleep 6");
    assert!(!said("portmaster status").contains(remedy));
    assert_eq!(host.property("portmaster.target", "ActiveState"), "active");
    assert!(rules_stand(&host));
    assert!(host.run("portmaster stop").contains("everything passes"));
    assert!(said("portmaster status").contains(remedy));
    assert!(!rules_stand(&host), "a stop has stopped when it returns");
    let none = host.attempt_as("nobody", "portmaster start");
    assert!(!none.status.success() && !rules_stand(&host));
}

#[test]
fn an_upgrade_that_was_not_restarted_is_named() {
    let host = Booted::start("older");
    assert!(host.run("portmaster upgrade-check").contains("current"));
    // as a package does it: another file under the same name
    let policy = "/usr/libexec/portmaster/portmaster-policy";
    host.run(&format!("cp {policy} {policy}.new; mv {policy}.new {policy}"));
    let found = host.attempt("portmaster upgrade-check");
    let said = integration::booted::text(&found);
    assert_eq!(found.status.code(), Some(1), "{said}");
    assert!(
        said.contains("systemctl restart portmaster-policy.service\n"),
        "{said}"
    );
    host.systemctl("restart portmaster-policy.service");
    host.run("portmaster upgrade-check --json");
}
