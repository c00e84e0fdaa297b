//! The sockets that queries come in by: passed by systemd, else bound here.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use anyhow::Context as _;
use daemon::{ready, status::Status};
use rustix::net::{SocketType, sockopt::socket_type};

use crate::{
    config::Config,
    server::{self, Sockets},
};

/// The name under which the service manager passes them.
const PASSED: &str = "dns";
const PROBLEM: &str = "port-taken";
const DNS_PORT: u16 = 53;

/// All of them; where some are somebody else's, the others, and a problem that names him.
///
/// # Errors
/// Where there is none.
pub fn sockets(config: &Config, status: &Status) -> anyhow::Result<Sockets> {
    let passed = ready::take_passed(PASSED);
    if !passed.is_empty() {
        let (sockets, places) =
            from_systemd(passed, config.workers).context("use the sockets that systemd passed")?;
        if let Some(text) = missing(&config.listen, &places) {
            status.raise(PROBLEM, text);
        }
        return Ok(sockets);
    }
    let bound = server::bind(&config.listen, config.workers);
    if !bound.failed.is_empty() {
        let mut texts: Vec<_> = bound.failed.iter().map(ToString::to_string).collect();
        texts.extend(redirected(bound.failed.iter().map(|error| error.address)));
        status.raise(PROBLEM, texts.join("; "));
    }
    anyhow::ensure!(
        !bound.sockets.udp.iter().all(Vec::is_empty),
        "no address could be had for queries: {}",
        bound
            .failed
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    );
    Ok(bound.sockets)
}

/// Addresses that systemd could not bind, for somebody else has them: who that is, this service may not see.
fn missing(wanted: &[SocketAddr], places: &[SocketAddr]) -> Option<String> {
    let is_there = |address: &&SocketAddr| address.is_ipv4() || has_ipv6();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|address| !places.contains(address))
        .filter(is_there)
        .copied()
        .collect();
    let first = missing.first()?;
    let all: Vec<_> = missing.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "another server may have {}: nobody is answered there by this one; `ss -lnp 'sport = :{}'` as root names it, and \
         `portmaster check-host` what to do",
        all.join(", "),
        first.port()
    );
    if let Some(more) = redirected(missing) {
        text = format!("{text}; {more}");
    }
    Some(text)
}

/// A host may be without.
fn has_ipv6() -> bool {
    fs::read_to_string("/proc/net/if_inet6").is_ok_and(|addresses| !addresses.is_empty())
}

/// What the firewall redirects goes to one place of each family: where that is somebody else's, it has to be told another.
fn redirected(missing: impl IntoIterator<Item = SocketAddr>) -> Option<String> {
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT));
    let text = "queries to other servers are redirected to 127.0.0.1:53, and thus to that one, unless interceptor.toml has another \
                place: with `dns_v4 = \"127.0.0.17:53\"` below `[firewall]` they come here";
    missing
        .into_iter()
        .any(|address| address == target)
        .then(|| text.to_owned())
}

fn from_systemd(passed: Vec<OwnedFd>, workers: usize) -> anyhow::Result<(Sockets, Vec<SocketAddr>)> {
    let (mut udp, mut tcp) = (Vec::new(), Vec::new());
    for socket in passed {
        match socket_type(&socket)? {
            SocketType::DGRAM => udp.push(UdpSocket::from(socket)),
            SocketType::STREAM => tcp.push(TcpListener::from(socket)),
            other => anyhow::bail!("a socket of type {other:?} is no place for queries"),
        }
    }
    // bound for both, or for neither: a unit of systemd has both or fails
    let places = udp.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?;
    Ok((Sockets::shared(&udp, tcp, workers)?, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_where_queries_are_redirected_to_is_told_with_the_remedy() {
        let all: Vec<SocketAddr> = ["127.0.0.1:53", "[::1]:53", "127.0.0.17:53"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        assert_eq!(missing(&all, &all), None);
        let text = missing(&all, &all[1..]).unwrap();
        assert!(text.contains("127.0.0.1:53") && text.contains("dns_v4"), "{text}");
        let text = missing(&all, &[all[0], all[2]]).unwrap();
        assert!(text.contains("[::1]:53") && !text.contains("dns_v4"), "{text}");
    }
}
