//! The units on a newer systemd (Debian 13: 257), which knows keys that older ones do not.

use integration::{Booted, booted::Suite, eventually};

use super::{LOCKDOWN, SERVICES, curl, rules_stand, web_server};

fn booted(label: &str) -> Booted {
    let host = Booted::builder(label).suite(Suite::Trixie).start();
    assert!(host.systemctl("--version").starts_with("systemd 257"));
    web_server(&host);
    host
}

#[test]
fn a_newer_host_boots_restarts_and_stops() {
    let host = booted("newer");
    assert_eq!(host.systemctl("list-units --failed --no-legend --plain"), "");
    for (unit, _) in SERVICES {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    eventually("all services are healthy", || {
        host.attempt("portmaster status").status.success().then_some(())
    });
    assert!(rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
    for (unit, _) in SERVICES {
        host.systemctl(&format!("restart {unit}"));
        assert!(rules_stand(&host), "after a restart of {unit}");
        assert_eq!(curl(&host).unwrap(), "hello", "after a restart of {unit}");
    }
    let said = host.journal("portmaster-interceptor.service");
    assert!(said.contains("queue taken up from the process before"), "{said}");
    host.systemctl("stop portmaster.target 'portmaster-*'");
    assert!(!rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn newer_keys_are_known_there_and_each_unit_is_well_formed() {
    let host = booted("newer-keys");
    let kinds =
        ["target", "service", "socket"].map(|kind| format!("/usr/lib/systemd/system/portmaster*.{kind}"));
    let files = host.run(&format!("ls {}", kinds.join(" "))).replace('\n', " ");
    let said = host.attempt(&format!("systemd-analyze verify --man=no {files}"));
    assert_eq!(integration::booted::text(&said), "");
    assert!(said.status.success());
    for unit in SERVICES.iter().map(|(unit, _)| *unit).chain([LOCKDOWN]) {
        let said = host.attempt(&format!(
            "systemd-analyze security --no-pager --threshold=20 {unit}"
        ));
        assert!(
            said.status.success(),
            "{unit}: {}",
            integration::booted::text(&said)
        );
    }
    for (unit, _) in SERVICES {
        assert!(
            host.property(unit, "DropInPaths").ends_with("since-254.conf"),
            "{unit}"
        );
        assert_eq!(host.property(unit, "RestartSteps"), "8", "{unit}");
        assert_eq!(host.property(unit, "RestartMaxDelayUSec"), "10s", "{unit}");
    }
}

#[test]
fn what_keeps_ending_is_started_more_and_more_slowly_where_systemd_can() {
    let host = booted("newer-slow");
    let unit = "portmaster-policy.service";
    host.file(
        &format!("/etc/systemd/system/{unit}.d/ends.conf"),
        "[Service]\nExecStart=\nExecStart=/usr/bin/false\n",
    );
    host.systemctl("daemon-reload");
    let _fails = host.attempt(&format!("systemctl restart {unit}"));
    let next = || host.property(unit, "RestartUSecNext");
    // 100 ms to begin with, 10 s after eight
    assert_eq!(host.property(unit, "RestartUSec"), "100ms");
    eventually("it waits for longer than at first", || {
        next()
            .ends_with('s')
            .then(next)
            .filter(|next| !next.ends_with("ms"))
    });
    assert_eq!(curl(&host).unwrap(), "hello", "decided by the last snapshot");
    host.run(&format!("rm /etc/systemd/system/{unit}.d/ends.conf"));
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {unit}"));
    host.wait_for(unit, "active");
}
