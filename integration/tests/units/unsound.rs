//! Hosts with something wrong: they boot, closed where it must be, and say what it is.

use integration::{Booted, eventually};

use super::{LOCKDOWN, curl, rules_stand, web_server};

const INTERCEPTOR: &str = "portmaster-interceptor.service";
const POLICY: &str = "portmaster-policy.service";

#[test]
fn a_broken_configuration_boots_closed_and_the_console_says_why() {
    let host = Booted::builder("broken")
        .file("/etc/portmaster/interceptor.toml", "[firewall]\nnonsense = 1\n")
        .start();
    web_server(&host);
    let reason = "/etc/portmaster/interceptor.toml:2: unknown field `nonsense`";
    assert!(host.console().contains(reason), "{}", host.console());
    assert!(host.journal(INTERCEPTOR).contains(reason));
    assert_eq!(host.property(LOCKDOWN, "ActiveState"), "active");
    assert_eq!(host.property(INTERCEPTOR, "ActiveState"), "failed");
    assert_eq!(host.property(INTERCEPTOR, "ExecMainStatus"), "64");
    assert_eq!(
        host.property(INTERCEPTOR, "NRestarts"),
        "0",
        "it does not get better by trying"
    );
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();

    host.run("rm /etc/portmaster/interceptor.toml");
    host.systemctl(&format!("restart {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn a_host_closed_by_a_broken_configuration_is_opened_by_stopping_the_target() {
    let host = Booted::builder("open")
        .file("/etc/portmaster/interceptor.toml", "nonsense\n")
        .start();
    web_server(&host);
    curl(&host).unwrap_err();
    host.systemctl("stop portmaster.target 'portmaster-*'");
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn policy_with_a_broken_configuration_rests_and_packets_are_decided_without_it() {
    let host = Booted::builder("rests")
        .file("/etc/portmaster/policy.toml", "rescan_seconds = \"soon\"\n")
        .start();
    web_server(&host);
    host.wait_for(POLICY, "failed");
    assert_eq!(host.property(INTERCEPTOR, "ActiveState"), "active");
    assert_eq!(curl(&host).unwrap(), "hello");
    let said = host.journal(POLICY);
    assert!(said.contains("/etc/portmaster/policy.toml:1"), "{said}");
    host.run("rm /etc/portmaster/policy.toml");
    // those that follow it have knocked until systemd closed the socket; it does so again to who is as quick as a test,
    // and then the unit comes back by itself
    let _first = host.attempt(&format!("systemctl restart {POLICY}"));
    host.wait_for(POLICY, "active");
    host.wait_for("portmaster-policy.socket", "active");
}

/// Whether policy takes calls at its socket.
fn answers(host: &Booted) {
    host.run("curl -sm5 --http2-prior-knowledge --unix-socket /run/portmaster/policy.sock http://x");
}

/// Knocking closes a socket while its service comes back: without more the service would go on, and nobody could call it.
#[test]
fn a_service_whose_socket_was_closed_comes_back_with_another() {
    let host = Booted::builder("deaf")
        .file(
            "/etc/systemd/system/portmaster-policy.socket.d/strict.conf",
            "[Socket]\nTriggerLimitIntervalSec=8s\nTriggerLimitBurst=1\n",
        )
        .start();
    host.wait_for(POLICY, "active");
    let knock = "timeout 10 sh -c 'while :; do curl -sm1 --unix-socket /run/portmaster/policy.sock http://x; done' || true";
    std::thread::scope(|scope| {
        scope.spawn(|| host.attempt(knock));
        eventually("its socket was closed under it", || {
            let _ = host.attempt(&format!("systemctl kill -s KILL {POLICY}"));
            let said = host.journal("portmaster-policy.socket");
            said.contains("trigger-limit-hit").then_some(())
        });
    });
    host.wait_for(POLICY, "active");
    host.wait_for("portmaster-policy.socket", "active");
    answers(&host);
}

#[test]
fn a_socket_file_that_somebody_removed_is_told_with_its_remedy() {
    let host = Booted::builder("removed").start();
    host.wait_for(POLICY, "active");
    host.run("rm /run/portmaster/policy.sock");
    let remedy = "systemctl restart portmaster-policy.socket";
    eventually("it is told", || {
        host.journal(POLICY).contains(remedy).then_some(())
    });
    assert_eq!(
        host.property(POLICY, "ActiveState"),
        "active",
        "what it can do it does"
    );
    host.run(remedy);
    host.wait_for(POLICY, "active");
    answers(&host);
}

#[test]
fn a_missing_user_costs_its_service_alone_and_is_named() {
    let host = Booted::builder("nobody")
        .file_without("/etc/passwd", |line| line.starts_with("portmaster-policy:"))
        // not made again behind our back
        .file("/etc/sysusers.d/portmaster.conf", "")
        .start();
    web_server(&host);
    host.wait_for(POLICY, "failed");
    let said = host.journal(POLICY);
    assert!(
        said.contains("Failed to determine user credentials") && said.contains("status=217/USER"),
        "{said}"
    );
    assert_eq!(host.property(INTERCEPTOR, "ActiveState"), "active");
    assert!(rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello", "decided by what is shipped");
}

#[test]
fn a_missing_group_keeps_the_host_closed_and_is_named() {
    let host = Booted::builder("nogroup")
        .file_without("/etc/group", |line| line.starts_with("portmaster:"))
        .file_without("/etc/gshadow", |line| line.starts_with("portmaster:"))
        .file("/etc/sysusers.d/portmaster.conf", "")
        .start();
    web_server(&host);
    assert_eq!(
        host.property("portmaster-interceptor.socket", "ActiveState"),
        "failed"
    );
    // said by a process that ends at once: journald may not learn any more which unit it was of
    let said = host.run("journalctl --sync; journalctl --boot --no-pager --output=cat");
    assert!(said.contains("Failed to resolve group portmaster"), "{said}");
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();
    // put right by what makes users, without a boot
    host.run(
        "rm /etc/sysusers.d/portmaster.conf; systemd-sysusers; systemd-tmpfiles --create portmaster.conf",
    );
    host.systemctl("start portmaster.target");
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn a_unit_that_was_overridden_badly_says_what_it_lacks() {
    let drop_in = |name: &str| format!("/etc/systemd/system/{INTERCEPTOR}.d/{name}.conf");
    let host = Booted::builder("override")
        .file(
            &drop_in("50-fewer"),
            "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n",
        )
        .start();
    web_server(&host);
    let said = host.journal(INTERCEPTOR);
    assert!(said.contains("the capability CAP_NET_ADMIN is missing"), "{said}");
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();

    host.run(&format!("rm {}", drop_in("50-fewer")));
    host.file(
        &drop_in("50-flag"),
        "[Service]\nExecStart=\nExecStart=/usr/libexec/portmaster/portmaster-interceptor --fast\n",
    );
    host.systemctl("daemon-reload");
    host.attempt(&format!("systemctl restart {INTERCEPTOR}"));
    host.wait_for(INTERCEPTOR, "failed");
    let said = host.journal(INTERCEPTOR);
    assert!(said.contains("unexpected argument '--fast'"), "{said}");
    curl(&host).unwrap_err();

    host.run(&format!("rm {}", drop_in("50-flag")));
    host.systemctl("daemon-reload");
    host.systemctl(&format!("restart {INTERCEPTOR}"));
    assert_eq!(curl(&host).unwrap(), "hello");
}

#[test]
fn a_full_runtime_directory_keeps_the_host_closed_and_is_named() {
    let mount = "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n\
        [Mount]\nWhat=tmpfs\nWhere=/run/portmaster\nType=tmpfs\nOptions=nr_inodes=1,mode=750\n";
    let host = Booted::builder("full")
        .file("/etc/systemd/system/run-portmaster.mount", mount)
        .file(
            "/etc/systemd/system/local-fs.target.d/full.conf",
            "[Unit]\nWants=run-portmaster.mount\n",
        )
        .start();
    web_server(&host);
    let said = host.journal("portmaster-interceptor.socket");
    assert!(
        said.contains("/run/portmaster/interceptor.sock") && said.contains("No space left on device"),
        "{said}"
    );
    assert_eq!(host.property(INTERCEPTOR, "ActiveState"), "inactive");
    assert!(rules_stand(&host));
    curl(&host).unwrap_err();
    host.run("mount -o remount,nr_inodes=100 /run/portmaster");
    host.systemctl("start portmaster.target");
    assert_eq!(curl(&host).unwrap(), "hello");
}
