//! What is no rule: ports, programs, the kernel, settings of others.

use std::net::IpAddr;

use super::*;
use crate::check_host::facts::Taken;

#[test]
fn a_table_that_iptables_cannot_read_is_named() {
    let text = "# Table `filter' is incompatible, use 'nft' tool.\n";
    let found = one(&with_rules(text));
    assert_eq!((found.level, found.code), (Level::Clash, "table-unreadable"));
}

#[test]
fn rules_in_both_back_ends_are_named() {
    let text = "*filter\n-A INPUT -p tcp --dport 23 -j DROP\nCOMMIT\n";
    let mut facts = with_rules(text);
    facts.saved.push(saved(Backend::Legacy, text));
    let found = codes(&facts);
    assert!(found.contains(&(Level::Beside, "two-back-ends")), "{found:?}");
}

#[test]
fn ports_clash_by_address() {
    let taken = |tcp, address: &str, port, name| Facts {
        sockets: vec![Taken {
            tcp,
            address: address.parse::<IpAddr>().unwrap(),
            port,
            process: Some(process(name)),
        }],
        ..plain()
    };
    let level = |facts: &Facts| judge(facts).first().map(|finding| (finding.level, finding.code));
    for address in ["127.0.0.1", "::1", "0.0.0.0", "::"] {
        let facts = taken(false, address, 53, "dnsmasq");
        assert_eq!(level(&facts), Some((Level::Later, "port-taken")), "{address}");
        let remedy = one(&facts).remedy;
        assert!(
            remedy.contains("where Portmaster's DNS service is installed") && remedy.contains("dns_v4"),
            "{remedy}"
        );
    }
    for address in ["127.0.0.53", "192.168.122.1"] {
        let facts = taken(false, address, 53, "systemd-resolved");
        assert_eq!(
            level(&facts),
            Some((Level::Beside, "port-elsewhere")),
            "{address}"
        );
    }
    assert_eq!(
        level(&taken(true, "127.0.0.17", 717, "nc")),
        Some((Level::Clash, "port-taken"))
    );
    assert_eq!(level(&taken(true, "127.0.0.1", 717, "nc")), None);
    assert_eq!(
        level(&taken(true, "127.0.0.1", 817, "nc")),
        Some((Level::Later, "port-taken"))
    );
    assert_eq!(level(&taken(false, "127.0.0.1", 817, "nc")), None);
    assert_eq!(level(&taken(true, "127.0.0.1", 53, "portmaster-dns")), None);
}

#[test]
fn what_is_lacking_is_named_with_what_helps() {
    let facts = Facts {
        missing: vec!["ip6tables", "ip6tables-save"],
        trial: vec![
            (
                Family::V4,
                Trial::Refused("unknown option \"--queue-num\"".to_owned()),
            ),
            (Family::V6, Trial::Untried("only root may".to_owned())),
        ],
        queues: Some(false),
        readers: Err("permission denied".to_owned()),
        ours: Err("/etc/portmaster/interceptor.toml: invalid".to_owned()),
        ..plain()
    };
    let found = codes(&facts);
    for wanted in [
        (Level::Clash, "no-program"),
        (Level::Clash, "kernel"),
        (Level::Unknown, "kernel"),
        (Level::Clash, "no-queues"),
        (Level::Unknown, "queue-held"),
        (Level::Clash, "configuration"),
    ] {
        assert!(found.contains(&wanted), "{wanted:?} is not among {found:?}");
    }
    assert!(found.is_sorted_by_key(|(level, _)| *level), "the worst first");
}

#[test]
fn programs_that_flush_everything_are_named() {
    let settings = |nftables: &str, firewalld: &str, ufw: &str| Facts {
        settings: Settings {
            nftables: Some(nftables.to_owned()),
            firewalld: Some(firewalld.to_owned()),
            ufw: Some(ufw.to_owned()),
        },
        ..plain()
    };
    let debian = "#!/usr/sbin/nft -f\n\nflush ruleset\n\ntable inet filter {}\n";
    let all = settings(debian, "FirewallBackend=iptables\n", "MANAGE_BUILTINS=yes\n");
    assert_eq!(codes(&all), [(Level::Beside, "flushes-rules"); 3]);
    let none = settings(
        "# flush ruleset\n",
        "FirewallBackend=nftables\n",
        "MANAGE_BUILTINS=no\n",
    );
    assert_eq!(codes(&none), []);
}
