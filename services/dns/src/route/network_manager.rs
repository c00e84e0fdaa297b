//! What NetworkManager knows of servers, domains and connectivity (nm-dbus-interface.h; its DnsManager object).

use std::{collections::HashMap, net::SocketAddr};

use dns_core::Name;
use zbus::{Connection, OwnedVariant, proxy, proxy::CacheProperties};

use super::{
    portal::Connectivity,
    resolv_conf,
    sources::Interfaces,
    system::{Domain, Link, Source, System, is_ours},
};

/// The name that it owns.
pub(super) const NAME: &str = "org.freedesktop.NetworkManager";

type Configuration = HashMap<String, OwnedVariant>;

#[proxy(
    interface = "org.freedesktop.NetworkManager.DnsManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager/DnsManager"
)]
trait DnsManager {
    #[zbus(property)]
    fn configuration(&self) -> zbus::Result<Vec<Configuration>>;
}

#[proxy(
    interface = "org.freedesktop.NetworkManager",
    default_service = "org.freedesktop.NetworkManager",
    default_path = "/org/freedesktop/NetworkManager"
)]
trait NetworkManager {
    #[zbus(property)]
    fn connectivity(&self) -> zbus::Result<u32>;
}

/// Asks it for servers and domains.
pub(super) async fn read(bus: &Connection, interfaces: &Interfaces) -> zbus::Result<System> {
    let manager = DnsManagerProxy::builder(bus)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    Ok(translate(&manager.configuration().await?, interfaces))
}

/// Asks it how far the network reaches.
pub(super) async fn connectivity(bus: &Connection) -> zbus::Result<Connectivity> {
    let manager = NetworkManagerProxy::builder(bus)
        .cache_properties(CacheProperties::No)
        .build()
        .await?;
    Ok(match manager.connectivity().await? {
        1 => Connectivity::None,
        2 => Connectivity::Portal,
        3 => Connectivity::Limited,
        4 => Connectivity::Full,
        _ => Connectivity::Unknown,
    })
}

fn translate(configurations: &[Configuration], interfaces: &Interfaces) -> System {
    let links: Vec<Link> = configurations
        .iter()
        .map(|one| link(one, interfaces))
        .filter(|link| !link.servers.is_empty())
        .collect();
    System {
        source: (!links.is_empty()).then_some(Source::NetworkManager),
        links,
    }
}

fn link(from: &Configuration, interfaces: &Interfaces) -> Link {
    let texts = |key: &str| {
        let value = from.get(key).and_then(|value| value.try_clone().ok());
        value
            .and_then(|value| Vec::<String>::try_from(value).ok())
            .unwrap_or_default()
    };
    let interface = from
        .get("interface")
        .and_then(|value| <&str>::try_from(value).ok())
        .unwrap_or_default();
    let vpn = from
        .get("vpn")
        .and_then(|value| bool::try_from(value).ok())
        .unwrap_or(false);
    let scope = || interfaces.number(interface);
    let servers: Vec<SocketAddr> = texts("nameservers")
        .iter()
        .filter_map(|text| server(text, scope))
        .filter(|server| !is_ours(server))
        .collect();
    let domains: Vec<Domain> = texts("domains").iter().filter_map(|text| domain(text)).collect();
    Link {
        interface: interface.to_owned(),
        tunnel: vpn,
        servers,
        // A VPN with domains of its own is for those; without, it is for everything.
        default_route: !vpn || domains.is_empty(),
        domains,
    }
}

/// A link-local address belongs to the interface of its entry.
fn server(text: &str, scope: impl Fn() -> Option<u32>) -> Option<SocketAddr> {
    let mut server = resolv_conf::address(text, |_| scope())?;
    if let SocketAddr::V6(six) = &mut server
        && six.ip().is_unicast_link_local()
        && six.scope_id() == 0
    {
        six.set_scope_id(scope()?);
    }
    Some(server)
}

fn domain(text: &str) -> Option<Domain> {
    let name = Name::parse(text.trim_start_matches('~')).ok()?;
    Some(Domain {
        name,
        route_only: text.starts_with('~'),
    })
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn configuration(interface: &str, servers: &[&str], domains: &[&str], vpn: bool) -> Configuration {
        let owned = |value: Variant<'_>| value.try_into_owned().unwrap();
        HashMap::from([
            ("interface".to_owned(), owned(interface.into())),
            ("nameservers".to_owned(), owned(servers.to_vec().into())),
            ("domains".to_owned(), owned(domains.to_vec().into())),
            ("vpn".to_owned(), owned(vpn.into())),
            ("priority".to_owned(), owned(100_i32.into())),
        ])
    }

    #[test]
    fn each_entry_is_a_link() {
        let interfaces = Interfaces::of([(2, "wlan0", false), (3, "tun0", true)]);
        let configurations = [
            configuration(
                "wlan0",
                &["192.0.2.1", "fe80::1", "dns+tls://192.0.2.2"],
                &["lan"],
                false,
            ),
            configuration("tun0", &["10.8.0.1"], &["~corp.example", "office.example"], true),
            configuration("tun1", &["10.9.0.1"], &[], true),
            configuration("lo", &["127.0.0.1"], &[], false),
        ];
        let system = translate(&configurations, &interfaces);
        let told: Vec<String> = system
            .links
            .iter()
            .map(|link| {
                format!(
                    "{} {:?} {} {}",
                    link.interface,
                    link.servers,
                    link.domains.len(),
                    link.default_route
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "wlan0 [192.0.2.1:53, [fe80::1%2]:53] 1 true",
                "tun0 [10.8.0.1:53] 2 false",
                "tun1 [10.9.0.1:53] 0 true"
            ]
        );
        assert!(system.links[1].domains[0].route_only && !system.links[1].domains[1].route_only);
    }
}
