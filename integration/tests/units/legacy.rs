//! A host whose firewall programs are those of x_tables (`iptables-legacy`, as its administrator chose by
//! `update-alternatives`). Files of it are root's, and the interceptor is not root.

use integration::{Booted, eventually};

use super::{LOCKDOWN, curl, rules_stand, web_server};

const INTERCEPTOR: &str = "portmaster-interceptor.service";

fn booted(label: &str) -> Booted {
    let mut builder = Booted::builder(label);
    for family in ["iptables", "ip6tables"] {
        for kind in ["", "-save", "-restore"] {
            builder = builder.link(
                &format!("/etc/alternatives/{family}{kind}"),
                &format!("/usr/sbin/{family}-legacy{kind}"),
            );
        }
    }
    let host = builder.start();
    assert!(
        host.run("iptables --version; ip6tables --version")
            .contains("(legacy)")
    );
    web_server(&host);
    host
}

/// What nftables holds of ours, by whichever program it came.
fn in_nftables(host: &Booted) -> bool {
    host.run("nft list ruleset").contains("C17")
}

#[test]
fn the_mesh_boots_on_legacy_tables_and_their_rules_outlive_every_restart() {
    let host = booted("legacy");
    assert_eq!(host.property(LOCKDOWN, "ActiveState"), "active");
    assert_eq!(host.property(INTERCEPTOR, "ActiveState"), "active");
    assert_eq!(host.systemctl("list-units --failed --no-legend --plain"), "");
    assert!(rules_stand(&host));
    assert!(!in_nftables(&host), "{}", host.run("nft list ruleset"));
    assert_eq!(curl(&host).unwrap(), "hello");

    // taken over, not loaded anew: what was counted goes on being counted
    let counted = || {
        let rules = host.run("iptables-legacy -t mangle -vxnL OUTPUT");
        let line = rules
            .lines()
            .find(|line| line.contains("C170"))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .unwrap_or_default()
            .parse::<u64>()
            .unwrap()
    };
    let before = counted();
    assert!(before > 0);
    for action in ["restart", "kill --signal=KILL --kill-whom=main"] {
        let pid = host.property(INTERCEPTOR, "MainPID");
        host.systemctl(&format!("{action} {INTERCEPTOR}"));
        eventually("it is back", || {
            let back = host.property(INTERCEPTOR, "MainPID") != pid
                && host.property(INTERCEPTOR, "ActiveState") == "active";
            back.then_some(())
        });
        assert!(counted() >= before, "after {action}");
        assert!(rules_stand(&host), "after {action}");
        assert_eq!(curl(&host).unwrap(), "hello", "after {action}");
    }
    assert!(!in_nftables(&host));
}

#[test]
fn legacy_rules_are_mended_go_with_a_stop_and_come_with_a_start() {
    let host = booted("legacy2");
    assert!(rules_stand(&host));
    // nobody tells of changes there: they are found by looking
    host.run("iptables-legacy -t mangle -F OUTPUT; ip6tables-legacy -t filter -F C17");
    eventually("the rules are mended", || {
        let v6 = host.run("ip6tables-legacy-save");
        (v6.contains("-A C17 ") && rules_stand_of(&host, "iptables-legacy-save")).then_some(())
    });
    host.systemctl("stop portmaster.target 'portmaster-*'");
    assert!(!rules_stand(&host));
    let left = host.run("iptables-legacy-save; ip6tables-legacy-save");
    assert!(!left.contains("C17"), "{left}");
    assert_eq!(curl(&host).unwrap(), "hello");
    host.systemctl("start portmaster.target");
    assert!(rules_stand(&host));
    assert!(!in_nftables(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
}

fn rules_stand_of(host: &Booted, program: &str) -> bool {
    host.run(program).lines().any(|line| line == "-A OUTPUT -j C170")
}
