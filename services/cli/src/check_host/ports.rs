//! Sockets where ours are to be. Pure.

use std::net::IpAddr;

use verdict::ruleset::Options;

use super::{
    facts::{Process, Taken, addresses},
    finding::{Finding, Level},
};

/// A socket that somebody has.
pub(super) fn judge(socket: &Taken, ours: &Options) -> Option<Finding> {
    if socket.process.as_ref().is_some_and(Process::is_ours) {
        return None;
    }
    let local = |port: u16| {
        [
            (IpAddr::from([127, 0, 0, 1]), port),
            (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), port),
        ]
    };
    let places = [
        (addresses(ours.dns), Port::Dns),
        (addresses(ours.gate17), Port::Gate17),
        (local(817), Port::Api),
    ];
    let clash = places
        .iter()
        .find(|(places, _)| places.iter().any(|place| covers(socket, *place)));
    let holder = socket
        .process
        .as_ref()
        .map_or_else(|| "somebody".to_owned(), Process::to_string);
    let protocol = if socket.tcp { "TCP" } else { "UDP" };
    let address = std::net::SocketAddr::new(socket.address, socket.port);
    let what = format!("{holder} has {protocol} {address}");
    let Some((_, port)) = clash else {
        return (socket.port == ours.dns.v4.port()).then(|| {
            let remedy = "works beside: Portmaster's DNS service will have 127.0.0.1 and ::1 alone";
            Finding::new(Level::Beside, "port-elsewhere", what, remedy)
        });
    };
    let level = if *port == Port::Gate17 {
        Level::Clash
    } else {
        Level::Later
    };
    // Gate17 is TCP and UDP, DNS as well; the API is TCP alone
    (*port != Port::Api || socket.tcp).then(|| Finding::new(level, "port-taken", what, port.remedy()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Dns,
    Gate17,
    Api,
}

impl Port {
    const fn remedy(self) -> &'static str {
        match self {
            Self::Dns => {
                "it clashes where Portmaster's DNS service is installed. Then have this one listen elsewhere (dnsmasq: listen-address and \
                 bind-interfaces; unbound: interface), or stop it; or keep it, and have queries redirected to Portmaster's own address: \
                 `dns_v4 = \"127.0.0.17:53\"` below `[firewall]` in interceptor.toml"
            }
            Self::Gate17 => {
                "stop it, or have it listen elsewhere: connections that a rule tunnels are led to this address, and it would get them"
            }
            Self::Api => {
                "nothing to do today: it clashes once Portmaster's API is installed. Then have this one listen elsewhere"
            }
        }
    }
}

/// Who binds this cannot bind that.
fn covers(socket: &Taken, (address, port): (IpAddr, u16)) -> bool {
    let everywhere = match socket.address {
        // also for IPv4, unless it was told otherwise, which is not to be seen
        IpAddr::V6(bound) => bound.is_unspecified(),
        IpAddr::V4(bound) => bound.is_unspecified() && address.is_ipv4(),
    };
    socket.port == port && (everywhere || socket.address == address)
}
