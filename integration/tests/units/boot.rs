//! What a host looks like that has booted.

use integration::{Booted, eventually};

use super::{LOCKDOWN, SERVICES, curl, rules_stand, web_server};

#[test]
fn a_host_boots_and_every_unit_of_ours_runs() {
    let host = Booted::start("boot");
    web_server(&host);
    assert_eq!(host.property("portmaster.target", "ActiveState"), "active");
    assert_eq!(host.systemctl("list-units --failed --no-legend --plain"), "");
    for (unit, _) in SERVICES {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    // healthy: the status of its exit says so, once the bus that came up later was joined
    eventually("all services are healthy", || {
        host.attempt("portmaster status").status.success().then_some(())
    });
    assert!(rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn rules_stand_before_the_network_is_configured() {
    let network = "[Unit]\nDefaultDependencies=no\nAfter=network-pre.target\nBefore=network.target\nWants=network.target\n\
        [Service]\nType=oneshot\nRemainAfterExit=yes\n\
        ExecStart=sh -c 'iptables-save >/run/rules-v4; ip6tables-save >/run/rules-v6'\n";
    let host = Booted::builder("early")
        .file(
            "/etc/systemd/system/network-manager-of-some-kind.service",
            network,
        )
        .file(
            "/etc/systemd/system/multi-user.target.d/network.conf",
            "[Unit]\nWants=network-manager-of-some-kind.service\n",
        )
        .start();
    for file in ["/run/rules-v4", "/run/rules-v6"] {
        let rules = host.run(&format!("cat {file}"));
        assert!(
            rules.contains("-A OUTPUT -j C17\n") && rules.contains("-A OUTPUT -j C170\n"),
            "{file}:\n{rules}"
        );
    }
    // in microseconds since the machine started
    let at = |unit: &str, property: &str| -> u64 { host.property(unit, property).parse().unwrap() };
    let rules = at(LOCKDOWN, "ExecMainExitTimestampMonotonic");
    let network = at("network-pre.target", "ActiveEnterTimestampMonotonic");
    assert!(
        rules > 0 && rules < network,
        "rules at {rules}, network at {network}"
    );
    // needs neither bus nor our services
    let bus = at("dbus.socket", "ActiveEnterTimestampMonotonic");
    let started = at(LOCKDOWN, "ExecMainStartTimestampMonotonic");
    assert!(started < bus, "rules waited for the bus");
}

#[test]
fn whoever_stops_the_target_opens_the_host_and_whoever_starts_it_waits_for_all_of_it() {
    let host = Booted::start("stopped");
    web_server(&host);
    host.systemctl("stop portmaster.target 'portmaster-*'");
    assert!(!rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
    assert_eq!(
        host.run("ls -A /run/portmaster"),
        "",
        "no socket tells of a service that is stopped"
    );
    assert!(!host.attempt("portmaster connections").status.success());
    host.systemctl("start portmaster.target");
    assert!(rules_stand(&host));
    for (unit, _) in SERVICES {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn a_service_that_is_killed_comes_back_at_once_and_its_rules_stay() {
    let host = Booted::start("killed");
    web_server(&host);
    for (unit, _) in SERVICES {
        let before = host.property(unit, "MainPID");
        host.run(&format!("kill -9 {before}"));
        eventually(&format!("{unit} is back"), || {
            let pid = host.property(unit, "MainPID");
            (pid != before && pid != "0" && host.property(unit, "ActiveState") == "active").then_some(())
        });
        assert!(rules_stand(&host));
    }
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn the_preset_enables_the_target_and_nothing_else_starts_it() {
    let host = Booted::builder("preset").disabled().start();
    assert_eq!(host.property("portmaster.target", "ActiveState"), "inactive");
    assert!(!rules_stand(&host));
    host.systemctl("preset portmaster.target");
    assert_eq!(host.systemctl("is-enabled portmaster.target"), "enabled\n");
}

#[test]
fn nothing_passes_undecided_while_the_host_shuts_down() {
    // on some hosts the bus is there to the end, and tells that this is a stop
    let mut host = Booted::builder("shutdown")
        .file(
            "/etc/systemd/system/portmaster-interceptor.service.d/bus.conf",
            "[Unit]\nAfter=dbus.service\n",
        )
        .start();
    host.power_off();
    // the namespace outlives the host: what its last process saw
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = host.host.sh(program);
        assert!(rules.contains("-A OUTPUT -j C17\n"), "{program}:\n{rules}");
    }
}
