//! The API on a whole host: by group, by polkit, over restarts, and services restarted through it.

use integration::{Booted, booted::text, eventually};

const GATEWAY: &str = "portmaster-api-gateway.service";
const RULES: &str = "/etc/polkit-1/rules.d/10-test.rules";
/// Of an administrator who trusts one user.
const RULE: &str = r#"
polkit.addRule(function(action, subject) {
    if (/^org\.portmaster\.api\./.test(action.id) && subject.user == "trusted") { return polkit.Result.YES; }
});
"#;

fn host(label: &str) -> Booted {
    let host = Booted::builder(label).file(RULES, RULE).start();
    host.wait_for(GATEWAY, "active");
    host.run("useradd trusted; useradd member; usermod -aG portmaster member; useradd stranger");
    host
}

/// A method, as a user; what was answered, also where that is a refusal.
fn call(host: &Booted, user: &str, method: &str, message: &str) -> String {
    let script =
        format!("curl -sS --max-time 20 --json '{message}' http://127.0.0.1:817/portmaster.api.v1.{method}");
    text(&host.attempt_as(user, &script))
}

#[test]
fn the_group_reads_and_polkit_lets_others_decide() {
    let host = host("api");
    let by_v6 = "curl -sS --max-time 20 --json '{}' 'http://[::1]:817/portmaster.api.v1.System/WhoAmI'";
    assert!(host.run_as("member", by_v6).contains("ACCESS_READ"));
    assert!(call(&host, "member", "Connections/List", "{}").contains('{'));
    let refused = call(&host, "stranger", "Connections/List", "{}");
    assert!(refused.contains("group portmaster"), "{refused}");

    for user in ["member", "stranger"] {
        let refused = call(&host, user, "System/Pause", r#"{"seconds": "60"}"#);
        assert!(refused.contains("org.portmaster.api.decide"), "{user}: {refused}");
    }
    eventually("polkit lets whom it trusts", || {
        call(&host, "trusted", "System/Pause", r#"{"seconds": "60"}"#)
            .contains("until")
            .then_some(())
    });
    assert!(
        host.attempt("portmaster status --json")
            .stdout
            .windows(12)
            .any(|at| at == b"paused_until")
    );
    assert_eq!(call(&host, "trusted", "System/Resume", "{}"), "{}");
    let noted = host.journal(GATEWAY);
    assert!(noted.contains("/portmaster.api.v1.System/Pause"), "{noted}");

    // profiles are written by the policy service, within its sandbox, where root's own editor writes as well
    let rule = r#"{"match": {"path": "/usr/bin/wget"}, "rule": {"action": "ACTION_BLOCK", "note": "x"}}"#;
    let refused = call(&host, "member", "Policy/AddRule", rule);
    assert!(refused.contains("org.portmaster.api.decide"), "{refused}");
    let saved = call(&host, "trusted", "Policy/AddRule", rule);
    assert!(saved.contains("\"saved\":true"), "{saved}");
    let file = "/etc/portmaster/profiles.d/wget.toml";
    let owner = host.run(&format!("stat -c %U:%G:%a {file}"));
    assert_eq!(owner.trim(), "portmaster-policy:portmaster-policy:644");
    host.run(&format!("echo '# by hand' >> {file}; chown root: {file}"));
    let text = r#"{"id": "wget", "toml": "[[match]]\npath = \"/usr/bin/wget\"\n"}"#;
    let again = call(&host, "root", "Policy/SetProfile", text);
    assert!(
        again.contains("wget.toml~") && again.contains("by hand"),
        "{again}"
    );
    let outside = host.attempt_as("root", "test -e /etc/portmaster/profiles.d/wget.toml~");
    assert!(outside.status.success());
    let noted = host.journal(GATEWAY);
    assert!(noted.contains("Policy/SetProfile wget: done"), "{noted}");
}

#[test]
fn services_are_restarted_through_it_and_calls_wait_for_its_own() {
    let host = host("api-restart");
    let before = host.property("portmaster-dns.service", "MainPID");
    let refused = call(&host, "member", "System/RestartService", r#"{"name": "dns"}"#);
    assert!(refused.contains("org.portmaster.api.admin"), "{refused}");
    assert_eq!(
        call(&host, "root", "System/RestartService", r#"{"name": "dns"}"#),
        "{}"
    );
    eventually("it is another process", || {
        let now = host.property("portmaster-dns.service", "MainPID");
        (now != before && now != "0").then_some(())
    });
    let refused = call(&host, "root", "System/RestartService", r#"{"name": "ssh"}"#);
    assert!(refused.contains("no service"), "{refused}");
    for _ in 0..5 {
        host.systemctl(&format!("--no-block restart {GATEWAY}"));
        let version = call(&host, "stranger", "System/GetVersion", "{}");
        assert!(version.contains("portmaster.api.v1"), "{version}");
    }
}

/// systemd starts a service for whoever knocks at its socket; its owner's word stands above that.
#[test]
fn what_its_owner_stopped_stays_stopped() {
    let host = host("api-stopped");
    let interceptor = "portmaster-interceptor.service";
    host.systemctl(&format!("stop {interceptor} portmaster-dns.service"));
    for _ in 0..3 {
        let told = call(&host, "root", "System/ListServices", "{}");
        assert!(told.contains("stopped"), "{told}");
    }
    // longer than the pauses between two tries to follow it
    std::thread::sleep(std::time::Duration::from_secs(3));
    for unit in [interceptor, "portmaster-dns.service"] {
        assert_eq!(host.property(unit, "ActiveState"), "inactive", "{unit}");
    }
    host.systemctl(&format!("start {interceptor}"));
    eventually("it is followed again", || {
        call(&host, "root", "Connections/List", "{}")
            .contains("\"id\"")
            .then_some(())
    });
}
