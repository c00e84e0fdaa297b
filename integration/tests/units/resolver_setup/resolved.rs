//! With systemd-resolved, whose stub every program asks.

use integration::{Booted, booted::INTERNET, eventually};

use super::{LOG, MANAGERS, NONE, Stage};

const NETWORK_MANAGER: &str = "/etc/systemd/system/NetworkManager.service";

fn with_resolved(label: &str) -> Stage {
    let stage = Stage::new(
        Booted::builder(label)
            .packages(MANAGERS)
            .with_repository()
            .file(NETWORK_MANAGER, NONE),
    );
    let link = &stage.host.link.interface;
    stage.host.run(&format!(
        "resolvectl dns {link} {}; resolvectl default-route {link} true",
        INTERNET.0
    ));
    stage
}

#[test]
fn with_resolved_names_come_to_us_and_afterwards_all_is_as_before() {
    let stage = with_resolved("dns-resolved");
    let before = stage.state();
    assert!(before.contains("stub-resolv.conf"), "{before}");
    let hosts = stage.host.run("grep ^hosts: /etc/nsswitch.conf");
    assert!(hosts.contains("resolve [!UNAVAIL=return]"), "{hosts}");
    assert!(!stage.found("one"), "nothing is changed unless it is asked for");

    let said = stage.host.run("portmaster dns enable --dry-run");
    assert!(
        said.starts_with("disabled\n") && said.contains("resolved.conf.d"),
        "{said}"
    );
    assert_eq!(stage.state(), before);
    let said = stage.host.run("portmaster dns enable");
    assert!(said.starts_with("enabled\n"), "{said}");
    assert_ne!(stage.state(), before);
    assert!(stage.found("two"));
    stage.host.run("resolvectl query -4 three.example");
    let said = stage.host.run(&format!("{LOG} | grep three.example"));
    assert!(said.contains("systemd-resolved"), "{said}");
    assert_eq!(
        stage.server.asked("three.example"),
        1,
        "once, by the service: nothing goes round in circles"
    );
    assert!(
        stage
            .host
            .run("portmaster dns enable --dry-run")
            .starts_with("enabled\n")
    );
    let enabled = stage.state();
    stage.host.run("portmaster dns enable");
    assert_eq!(stage.state(), enabled, "twice is no error");

    // through its stub, where a program does not ask the C library
    stage.host.run("dig +short four.example @127.0.0.53");
    let said = stage.host.run(&format!("{LOG} | grep four.example"));
    assert!(said.contains("systemd-resolved"), "{said}");
    // otherwise than before: programs are known by themselves, once the C library asks by itself
    let said = stage.host.run("portmaster dns enable --direct");
    assert!(said.contains("/etc/nsswitch.conf"), "{said}");
    stage
        .host
        .run("cp /etc/nsswitch.conf /run/nss; sed -i 's/resolve \\[!UNAVAIL=return\\]//' /etc/nsswitch.conf");
    assert!(stage.found("five"));
    let said = stage.host.run(&format!("{LOG} | grep five.example"));
    assert!(said.contains("/usr/bin/getent"), "{said}");

    stage
        .host
        .run("cp /run/nss /etc/nsswitch.conf; portmaster dns disable");
    assert_eq!(stage.state(), before);
    assert!(!stage.found("six"));
    stage.host.run("portmaster dns disable");
    assert_eq!(stage.state(), before);
    assert_eq!(
        stage
            .host
            .run("ls /var/lib/portmaster | grep -c '^resolver' || true"),
        "0\n"
    );
}

#[test]
fn wherever_enable_is_killed_disable_puts_everything_back() {
    let stage = with_resolved("dns-killed");
    let before = stage.state();
    for after in [0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0] {
        stage
            .host
            .attempt(&format!("timeout --signal=KILL {after} portmaster dns enable"));
        stage.host.run("portmaster dns disable");
        assert_eq!(stage.state(), before, "killed after {after} s");
    }
    // the other way round
    for after in [0.005, 0.02, 0.05, 0.1] {
        stage.host.run("portmaster dns enable");
        stage
            .host
            .attempt(&format!("timeout --signal=KILL {after} portmaster dns disable"));
        stage.host.run("portmaster dns disable");
        assert_eq!(stage.state(), before, "killed after {after} s");
    }
    // begun, and begun again
    stage
        .host
        .attempt("timeout --signal=KILL 0.1 portmaster dns enable");
    stage.host.run("portmaster dns enable");
    assert!(stage.found("one"));
    stage.host.run("portmaster dns disable");
    assert_eq!(stage.state(), before);
}

#[test]
fn servers_of_the_owner_for_the_whole_host_are_asked_on() {
    let stage = Stage::new(
        Booted::builder("dns-global")
            .packages(MANAGERS)
            .file(NETWORK_MANAGER, NONE)
            .file(
                "/etc/systemd/resolved.conf.d/own.conf",
                &format!("[Resolve]\nDNS={}\nDomains=~.\n", INTERNET.0),
            ),
    );
    // of the network, and dead: the owner's word comes before it
    stage.host.run(&format!(
        "resolvectl dns {} 192.0.2.254",
        stage.host.link.interface
    ));
    let before = stage.state();
    assert!(!stage.found("one"));
    stage.host.run("portmaster dns enable");
    assert!(stage.found("two"));
    stage.host.run("systemctl restart portmaster-dns.service");
    assert!(stage.found("three"), "also after a restart");
    stage.host.run("portmaster dns disable");
    assert_eq!(stage.state(), before);

    // over TLS before, in the clear now: not without the owner's word
    let tls = "[Resolve]\nDNSOverTLS=yes\n";
    stage.host.file("/etc/systemd/resolved.conf.d/tls.conf", tls);
    stage.host.systemctl("restart systemd-resolved");
    let before = stage.state();
    let said = stage.refused("portmaster dns enable");
    assert!(said.contains("dns.toml") && said.contains("--force"), "{said}");
    assert_eq!(stage.state(), before);
}

#[test]
fn uninstalling_and_stopping_put_everything_back() {
    let stage = with_resolved("dns-uninstall");
    let before = stage.state();
    // as shipped: queries to others are redirected, and that alone would make it look as if it worked
    stage.host.run("rm /etc/portmaster/profiles.d/global.toml");
    eventually("queries are redirected", || {
        let said = stage
            .host
            .run("portmaster explain --program /usr/bin/getent --to 192.0.2.53:53 --protocol udp");
        said.starts_with("redirect-dns").then_some(())
    });
    stage.host.run("portmaster dns enable");
    assert_ne!(stage.state(), before);
    let said = stage.host.run("portmaster stop");
    assert!(said.contains("as they were"), "{said}");
    assert_eq!(stage.state(), before);
    assert_eq!(stage.getent("one.example"), INTERNET.0.to_string());
    stage.host.systemctl("start portmaster.target");
    stage.host.run("portmaster dns enable");
    assert!(stage.found("two"));
    stage.host.run("/src/scripts/uninstall");
    assert_eq!(stage.state(), before);
    assert_eq!(stage.getent("three.example"), INTERNET.0.to_string());
}
