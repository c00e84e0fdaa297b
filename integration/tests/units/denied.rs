//! What a service may not, by plain permissions or by a filter as SELinux and AppArmor have them (`EACCES`): it is named, with its
//! file or call, and the rest of the host goes on.

use integration::{Booted, eventually};

use super::{curl, rules_stand, web_server};

const INTERCEPTOR: &str = "portmaster-interceptor.service";
const POLICY: &str = "portmaster-policy.service";

#[test]
fn a_configuration_that_may_not_be_read_is_named_and_the_host_closed() {
    let host = Booted::start("denied-config");
    web_server(&host);
    host.run("touch /etc/portmaster/interceptor.toml; chmod 000 /etc/portmaster/interceptor.toml");
    let _refused = host.attempt(&format!("systemctl restart {INTERCEPTOR}"));
    host.wait_for(INTERCEPTOR, "failed");
    let said = host.journal(INTERCEPTOR);
    assert!(
        said.contains("/etc/portmaster/interceptor.toml") && said.contains("Permission denied"),
        "{said}"
    );
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();
    host.run("chmod 644 /etc/portmaster/interceptor.toml");
    host.systemctl(&format!("start {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn a_profile_that_may_not_be_read_is_named_and_what_held_before_holds() {
    let host = Booted::start("denied-profile");
    web_server(&host);
    let mine = "/etc/portmaster/profiles.d/mine.toml";
    host.file(mine, "[[match]]\npath = \"/usr/bin/true\"\n");
    host.run(&format!("chmod 000 {mine}"));
    eventually("it is told", || {
        let said = host.run("portmaster status || true");
        (said.contains("mine.toml") && said.contains("Permission denied")).then_some(())
    });
    assert_eq!(curl(&host).unwrap(), "hello");
    // also where that is all that it ever saw
    host.systemctl(&format!("restart {POLICY} {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
    host.run(&format!("chmod 644 {mine}"));
    eventually("all is well", || {
        (!host.run("portmaster status || true").contains("mine.toml")).then_some(())
    });
}

#[test]
fn sockets_that_may_not_be_called_are_named_and_packets_decided_without_them() {
    let host = Booted::start("denied-socket");
    web_server(&host);
    host.run("chmod 600 /run/portmaster/policy.sock /run/portmaster/process-resolver.sock");
    host.systemctl(&format!("restart {INTERCEPTOR} portmaster-dns.service"));
    // as of an unknown process, by the last snapshot
    assert_eq!(curl(&host).unwrap(), "hello");
    for unit in [INTERCEPTOR, "portmaster-dns.service"] {
        eventually(&format!("{unit} says so"), || {
            // whoever reads the journal sees what and why in one line
            let said = host.journal(unit);
            let is_told = |service: &str| {
                let what = format!("{service} cannot be reached");
                said.lines()
                    .any(|line| line.contains(&what) && line.contains("Permission denied"))
            };
            (is_told("policy") && is_told("process-resolver")).then_some(())
        });
        assert_eq!(host.property(unit, "NRestarts"), "0", "{unit}");
    }
    host.run("chmod 660 /run/portmaster/policy.sock /run/portmaster/process-resolver.sock");
    eventually("all is well", || {
        let said = host.run("portmaster status || true");
        (!said.contains("cannot be reached")).then_some(())
    });
}

/// As a policy for a daemon denies it: the call fails, whoever makes it.
#[test]
fn calls_that_are_denied_are_named_and_cost_what_they_were_for() {
    let host = Booted::start("denied-call");
    web_server(&host);
    let drop_in = format!("/etc/systemd/system/{INTERCEPTOR}.d/denied.conf");
    host.file(&drop_in, "[Service]\nSystemCallFilter=~memfd_create:EACCES\n");
    host.systemctl("daemon-reload");
    // not a restart: nothing is kept from before
    host.systemctl(&format!("stop {INTERCEPTOR}"));
    host.systemctl(&format!("start {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
    let said = host.journal(INTERCEPTOR);
    let is_told = |line: &str| line.contains("no journal") && line.contains("error=Permission denied");
    assert!(said.lines().any(is_told), "{said}");
    // and whoever filters finds it as a field of its own
    let fields = host.journal_fields(INTERCEPTOR);
    assert!(fields.contains("\"F_ERROR\":\"Permission denied"), "{fields}");

    host.file(
        &drop_in,
        "[Service]\nSystemCallFilter=~socket:EACCES\nSystemCallFilter=~socketpair:EACCES\n",
    );
    host.systemctl("daemon-reload");
    let _refused = host.attempt(&format!("systemctl restart {INTERCEPTOR}"));
    eventually("it says what it may not", || {
        host.journal(INTERCEPTOR)
            .contains("Permission denied")
            .then_some(())
    });
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();
    host.run(&format!("rm {drop_in}"));
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
}
