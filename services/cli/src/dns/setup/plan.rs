//! What is to be changed, from what there is. Pure.

use std::net::IpAddr;

use anyhow::{Result, bail};

use super::{
    facts::{Facts, is_ours},
    host::Tls,
    place::{Place, name_servers, network_manager, openresolv, resolv_conf, resolved},
};

/// See the module.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Place and text, in the order in which they are written.
    pub(super) changes: Vec<(Place, String)>,
    /// The servers that ours takes the place of, as a resolv.conf(5); `~domain` among the search domains is for routing.
    pub(super) servers: String,
    /// What the owner should know.
    pub(super) notes: Vec<String>,
}

/// What the owner wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    /// Programs ask our server themselves, not systemd-resolved.
    pub(super) direct: bool,
    /// Also where it takes something away.
    pub(super) force: bool,
}

/// `own`: the DNS service has upstreams of its own.
///
/// # Errors
/// Where the change would take something away; with the remedy.
pub(super) fn plan(facts: &Facts, server: IpAddr, own: bool, wishes: Wishes) -> Result<Plan> {
    let Wishes { direct, force } = wishes;
    let mut plan = Plan::default();
    if facts.resolved {
        if facts.global.tls == Tls::Opportunistic && !own {
            plan.notes.push(
                "systemd-resolved asked its servers over TLS where they can, Portmaster asks them in the clear: upstreams in \
                 /etc/portmaster/dns.toml change that"
                    .to_owned(),
            );
        }
        if facts.global.tls == Tls::Yes && !own && !force {
            bail!(
                "systemd-resolved asks its servers over TLS (DNSOverTLS=yes), and Portmaster would ask them in the clear: name \
                 encrypted upstreams in /etc/portmaster/dns.toml first (docs/dns-upstreams.md), or insist with --force"
            );
        }
        plan.changes.push((Place::Resolved, resolved(server)));
        plan.servers = global_servers(facts, &mut plan.notes);
    }
    if facts.asks_stub() && !direct {
        return Ok(plan);
    }
    if facts.resolved && facts.library_asks_resolved {
        plan.notes.push(
            "/etc/nsswitch.conf has the C library ask systemd-resolved first (hosts: resolve): Portmaster sees the names, and not \
             which program asks"
                .to_owned(),
        );
    }
    let servers = name_servers(&facts.resolv_conf);
    if servers.iter().any(|server| !is_ours(server)) {
        plan.servers.clone_from(&facts.resolv_conf);
    }
    if facts.is_openresolv() {
        // it would write over what others write, and puts its own file back by itself
        if servers != [server] {
            plan.changes
                .push((Place::Openresolv, openresolv(server, &facts.openresolv)));
        }
        return Ok(plan);
    }
    if facts.network_manager {
        plan.changes.push((Place::NetworkManager, network_manager()));
    } else if let Some(writer) = facts.writer() {
        plan.notes.push(format!(
            "/etc/resolv.conf says {writer:?}: whoever that is may write over ours; names are caught by the firewall all the \
             same"
        ));
    }
    if servers != [server] {
        plan.changes
            .push((Place::ResolvConf, resolv_conf(server, &facts.resolv_conf)));
    }
    Ok(plan)
}

/// Those that systemd-resolved was given for the host as a whole; those of links it goes on telling itself.
fn global_servers(facts: &Facts, notes: &mut Vec<String>) -> String {
    let mut text = String::new();
    for (address, port) in &facts.global.servers {
        if is_ours(address) {
            continue;
        }
        if matches!(port, 0 | 53) {
            text += &format!("nameserver {address}\n");
        } else {
            notes.push(format!(
                "server {address} at port {port} is not asked any more: name it in /etc/portmaster/dns.toml"
            ));
        }
    }
    if !text.is_empty() && !facts.global.domains.is_empty() {
        text += &format!("search {}\n", facts.global.domains.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::setup::host::GlobalResolver;

    const FORCED: Wishes = Wishes {
        direct: false,
        force: true,
    };
    const OURS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 17));

    fn facts(text: &str) -> Facts {
        Facts {
            resolv_conf: text.to_owned(),
            leads_to: Place::ResolvConf.path().into(),
            ..Facts::default()
        }
    }

    fn places(plan: &Plan) -> Vec<Place> {
        plan.changes.iter().map(|(place, _)| *place).collect()
    }

    #[test]
    fn each_kind_of_host_has_its_changes() {
        let (stub, own) = ("nameserver 127.0.0.53\n", "search lan\nnameserver 192.0.2.1\n");
        let cases: [(&str, bool, bool, &[Place]); 6] = [
            (own, false, false, &[Place::ResolvConf]),
            (own, false, true, &[Place::NetworkManager, Place::ResolvConf]),
            (stub, true, false, &[Place::Resolved]),
            (stub, true, true, &[Place::Resolved]),
            (own, true, false, &[Place::Resolved, Place::ResolvConf]),
            ("", false, false, &[Place::ResolvConf]),
        ];
        for (text, resolved, network_manager, expected) in cases {
            let facts = Facts {
                resolved,
                network_manager,
                ..facts(text)
            };
            let plan = plan(&facts, OURS, false, Wishes::default()).unwrap();
            assert_eq!(places(&plan), expected, "{facts:?}");
        }
    }

    #[test]
    fn programs_that_are_to_ask_themselves_do_not_ask_the_stub() {
        let mut facts = facts("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n");
        (facts.resolved, facts.network_manager) = (true, true);
        let direct = Wishes {
            direct: true,
            force: false,
        };
        let made = plan(&facts, OURS, false, direct).unwrap();
        assert_eq!(
            places(&made),
            [Place::Resolved, Place::NetworkManager, Place::ResolvConf]
        );
        let text = &made.changes[2].1;
        assert!(
            text.ends_with("nameserver 127.0.0.17\noptions edns0 trust-ad\nsearch lan\n"),
            "{text}"
        );
        assert_eq!(made.notes, [""; 0]);
        facts.library_asks_resolved = true;
        let made = plan(&facts, OURS, false, direct).unwrap();
        assert!(made.notes[0].contains("nsswitch.conf"), "{:?}", made.notes);
    }

    #[test]
    fn a_host_that_asks_us_already_is_left_alone() {
        let plan = plan(&facts("nameserver 127.0.0.17\n"), OURS, false, Wishes::default()).unwrap();
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn servers_that_only_the_changed_files_name_are_kept() {
        let text = "search lan\nnameserver 192.0.2.1\n";
        assert_eq!(
            plan(&facts(text), OURS, false, Wishes::default())
                .unwrap()
                .servers,
            text
        );
        let mut facts = facts("nameserver 127.0.0.53\n");
        facts.resolved = true;
        facts.global = GlobalResolver {
            servers: vec![
                ("192.0.2.9".parse().unwrap(), 0),
                ("192.0.2.10".parse().unwrap(), 5353),
                (OURS, 0),
            ],
            domains: vec!["corp.example".to_owned(), "~.".to_owned()],
            tls: Tls::Opportunistic,
        };
        let plan = plan(&facts, OURS, false, Wishes::default()).unwrap();
        assert_eq!(plan.servers, "nameserver 192.0.2.9\nsearch corp.example ~.\n");
        for word in ["5353", "where they can"] {
            assert!(
                plan.notes.iter().any(|note| note.contains(word)),
                "{:?}",
                plan.notes
            );
        }
    }

    #[test]
    fn openresolv_is_told_and_its_file_is_its_own() {
        let text = "# Generated by resolvconf\nsearch lan\nnameserver 192.0.2.1\n";
        for network_manager in [false, true] {
            let facts = Facts {
                network_manager,
                openresolv: "resolv_conf=/etc/resolv.conf\n".to_owned(),
                ..facts(text)
            };
            let made = plan(&facts, OURS, false, Wishes::default()).unwrap();
            assert_eq!(places(&made), [Place::Openresolv]);
            assert_eq!(made.servers, text);
            let settings = &made.changes[0].1;
            assert!(settings.ends_with("name_servers=127.0.0.17\n"), "{settings}");
        }
        let told = facts("# Generated by resolvconf\nnameserver 127.0.0.17\n");
        let made = plan(&told, OURS, false, Wishes::default()).unwrap();
        assert_eq!(made, Plan::default());
    }

    #[test]
    fn what_would_uncover_queries_is_refused_with_a_remedy() {
        let mut tls = facts("nameserver 127.0.0.53\n");
        (tls.resolved, tls.global.tls) = (true, Tls::Yes);
        let error = plan(&tls, OURS, false, Wishes::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("dns.toml"), "{error}");
        plan(&tls, OURS, true, Wishes::default()).unwrap();
        plan(&tls, OURS, false, FORCED).unwrap();
    }

    #[test]
    fn somebody_who_writes_the_file_is_named() {
        let plan = plan(
            &facts("; x\n# Generated by dhcpcd from eth0.dhcp\nnameserver 192.0.2.1\n"),
            OURS,
            false,
            Wishes::default(),
        )
        .unwrap();
        assert!(
            plan.notes.iter().any(|note| note.contains("dhcpcd")),
            "{:?}",
            plan.notes
        );
    }
}
