//! What systemd-resolved knows of links' servers and domains (org.freedesktop.resolve1(5)).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use dns_core::Name;
use zbus::{Connection, OwnedObjectPath, proxy, proxy::CacheProperties};

use super::{
    sources::Interfaces,
    system::{Domain, Link, Source, System, is_ours},
};

/// The name that it owns.
pub(super) const NAME: &str = "org.freedesktop.resolve1";

/// Interface, address family, address, port (0: the usual), name to prove (empty: none).
type Server = (i32, i32, Vec<u8>, u16, String);
/// Interface, domain, whether it is only for routing.
type LinkDomain = (i32, String, bool);

#[proxy(
    interface = "org.freedesktop.resolve1.Manager",
    default_service = "org.freedesktop.resolve1",
    default_path = "/org/freedesktop/resolve1"
)]
trait Manager {
    #[zbus(property, name = "DNSEx")]
    fn dns_ex(&self) -> zbus::Result<Vec<Server>>;
    #[zbus(property)]
    fn domains(&self) -> zbus::Result<Vec<LinkDomain>>;
    fn get_link(&self, interface: i32) -> zbus::Result<OwnedObjectPath>;
}

#[proxy(
    interface = "org.freedesktop.resolve1.Link",
    default_service = "org.freedesktop.resolve1"
)]
trait ResolvedLink {
    #[zbus(property)]
    fn default_route(&self) -> zbus::Result<bool>;
}

/// Asks it. `displaced` are the servers for the host as a whole that ours stand in the place of.
pub(super) async fn read(
    bus: &Connection,
    interfaces: &Interfaces,
    displaced: Vec<Link>,
) -> zbus::Result<System> {
    let manager = ManagerProxy::builder(bus)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    let (servers, domains) = (manager.dns_ex().await?, manager.domains().await?);
    let mut default_route = BTreeMap::from([(0, true)]);
    for (interface, ..) in &servers {
        if !default_route.contains_key(interface) {
            let takes = takes_default(bus, &manager, *interface).await;
            // A link that has gone in the meantime has no servers either.
            default_route.insert(*interface, takes.unwrap_or(false));
        }
    }
    let mut system = translate(&servers, &domains, &default_route, interfaces);
    let for_all =
        |server: &Server| server.0 == 0 && address(server).is_some_and(|address| !is_ours(&address));
    if !servers.iter().any(for_all) {
        system.links.extend(displaced);
        system.source = (!system.is_empty()).then_some(Source::Resolved);
    }
    Ok(system)
}

async fn takes_default(bus: &Connection, manager: &ManagerProxy<'_>, interface: i32) -> zbus::Result<bool> {
    let path = manager.get_link(interface).await?;
    let link = ResolvedLinkProxy::builder(bus)
        .path(path)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    link.default_route().await
}

fn translate(
    servers: &[Server],
    domains: &[LinkDomain],
    default_route: &BTreeMap<i32, bool>,
    interfaces: &Interfaces,
) -> System {
    let mut links: BTreeMap<i32, Link> = BTreeMap::new();
    for server in servers {
        let Some(address) = address(server).filter(|address| !is_ours(address)) else {
            continue;
        };
        let (name, tunnel) = interfaces.get(server.0.unsigned_abs());
        let link = links.entry(server.0).or_insert_with(|| Link {
            interface: name,
            tunnel,
            default_route: default_route.get(&server.0).copied().unwrap_or(false),
            ..Link::default()
        });
        link.servers.push(address);
    }
    for (interface, domain, route_only) in domains {
        if let (Some(link), Ok(name)) = (links.get_mut(interface), Name::parse(domain)) {
            link.domains.push(Domain {
                name,
                route_only: *route_only,
            });
        }
    }
    System {
        source: (!links.is_empty()).then_some(Source::Resolved),
        links: links.into_values().collect(),
    }
}

fn address((interface, _, bytes, port, _): &Server) -> Option<SocketAddr> {
    let port = if *port == 0 { 53 } else { *port };
    let ip = match bytes.as_slice() {
        four if four.len() == 4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(four).ok()?)),
        other => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(other).ok()?)),
    };
    Some(match ip {
        IpAddr::V6(six) if six.is_unicast_link_local() => {
            SocketAddrV6::new(six, port, 0, interface.unsigned_abs()).into()
        }
        other => SocketAddr::new(other, port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_domains_come_together_by_link() {
        let four = |n: u8| vec![192, 0, 2, n];
        let six = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets().to_vec();
        let servers = [
            (0, 2, vec![127, 0, 0, 1], 0, String::new()),
            (2, 2, four(1), 0, String::new()),
            (2, 10, six, 0, String::new()),
            (3, 2, four(3), 5353, "dns.example".to_owned()),
            (4, 2, vec![1, 2], 0, String::new()),
        ];
        let domains = [
            (2, "lan".to_owned(), false),
            (3, "corp.example".to_owned(), true),
            (9, "gone".to_owned(), true),
        ];
        let default_route = BTreeMap::from([(0, true), (2, true), (3, false)]);
        let interfaces = Interfaces::of([(2, "eth0", false), (3, "wg0", true)]);
        let system = translate(&servers, &domains, &default_route, &interfaces);
        assert_eq!(system.source, Some(Source::Resolved));
        let told: Vec<String> = system
            .links
            .iter()
            .map(|link| {
                let domains: Vec<_> = link
                    .domains
                    .iter()
                    .map(|one| format!("{}{}", if one.route_only { "~" } else { "" }, one.name))
                    .collect();
                format!(
                    "{} {} {:?} {domains:?} {}",
                    link.interface, link.tunnel, link.servers, link.default_route
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "eth0 false [192.0.2.1:53, [fe80::1%2]:53] [\"lan\"] true",
                "wg0 true [192.0.2.3:5353] [\"~corp.example\"] false",
            ]
        );
    }
}
