//! Figures for `docs/decisions/0003-reject.md`; no test, since a time proves nothing on a busy machine:
//! `cargo test -p integration --test rules -- --ignored --nocapture`.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    time::{Duration, Instant},
};

use interceptor::firewall::{BackendChoice, Config, RejectTcp};

use crate::host::{Host, PATIENCE, SILENCE, config, echo, talk};

const BLOCKED: u16 = 8711;
const ALLOWED: u16 = 8710;
const ATTEMPTS: usize = 500;
const AT_ONCE_ATTEMPTS: usize = 5;
const SLOW: Duration = Duration::from_millis(500);

#[test]
#[ignore = "prints figures"]
fn how_a_blocked_connection_fails() {
    for reject_tcp_with in [RejectTcp::Icmp, RejectTcp::Reset] {
        let host = Host::new(&Config {
            reject_tcp_with,
            ..config(BackendChoice::Nft)
        });
        for to in host.remotes() {
            let name = format!("{reject_tcp_with:?} IPv{}", if to.is_ipv4() { 4 } else { 6 });
            report(&format!("{name}, asked about"), attempts(&host, to, ATTEMPTS));
            echo(&host.internet, to, ALLOWED);
            report(&format!("{name}, blocked when established"), vec![cut(&host, to)]);
            without_question(&host, to);
            report(
                &format!("{name}, blocked by the kernel alone"),
                attempts(&host, to, AT_ONCE_ATTEMPTS),
            );
        }
    }
}

fn attempts(host: &Host, to: IpAddr, number: usize) -> Vec<(Duration, io::Error)> {
    let attempt = || {
        let start = Instant::now();
        let error = TcpStream::connect_timeout(&(to, BLOCKED).into(), PATIENCE).unwrap_err();
        (start.elapsed(), error)
    };
    host.host.enter(|| (0..number).map(|_| attempt()).collect())
}

/// What a program sees whose connection is blocked while it is open.
fn cut(host: &Host, to: IpAddr) -> (Duration, io::Error) {
    let mut stream = host.connect(to, ALLOWED, PATIENCE).unwrap();
    talk(&mut stream);
    let family = if to.is_ipv4() { "ipv4" } else { "ipv6" };
    host.host.sh(&format!(
        "conntrack -U -f {family} -p tcp --orig-port-dst {ALLOWED} --mark {}",
        1711
    ));
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    let start = Instant::now();
    let result = stream.write_all(b"x").and_then(|()| stream.read(&mut [0]));
    (start.elapsed(), result.unwrap_err())
}

/// Replaces the question by its answer.
fn without_question(host: &Host, to: IpAddr) {
    let program = if to.is_ipv4() {
        "iptables-nft"
    } else {
        "ip6tables-nft"
    };
    let last = format!("{program} -t mangle -S C170 | grep -c -- -A");
    host.host.sh(&format!(
        "{program} -t mangle -R C170 $({last}) -m mark --mark 0 -p tcp --dport {BLOCKED} -j MARK --set-mark {BLOCKED_MARK}",
        BLOCKED_MARK = 1711
    ));
}

fn report(what: &str, mut results: Vec<(Duration, io::Error)>) {
    results.sort_by_key(|(time, _)| *time);
    let at = |part: usize| results[(results.len() - 1) * part / 100].0;
    let slow = results.iter().filter(|(time, _)| *time > SLOW).count();
    let number = results.len();
    println!(
        "{what}: p50 {:?}, p99 {:?}, {slow} of {number} over {SLOW:?}: {}",
        at(50),
        at(99),
        results[0].1
    );
}
