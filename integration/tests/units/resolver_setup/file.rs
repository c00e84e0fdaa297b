//! With a plain `/etc/resolv.conf`.

use integration::{Booted, booted::INTERNET, eventually};

use super::Stage;

const PLAIN: &str = "search lan\noptions timeout:2\n";

pub(super) fn with_a_file(label: &str) -> Stage {
    let stage = Stage::new(Booted::builder(label));
    let text = format!("{PLAIN}nameserver {}\n", INTERNET.0);
    stage.host.run(&format!(
        "rm -f /etc/resolv.conf; printf '{}' >/etc/resolv.conf; chown daemon:adm /etc/resolv.conf; chmod 0645 /etc/resolv.conf; \
         touch -d '2020-02-02 02:02:02.123456789' /etc/resolv.conf",
        text.replace('\n', "\\n")
    ));
    stage
}

#[test]
fn with_a_plain_file_names_come_to_us_and_afterwards_all_is_as_before() {
    let stage = with_a_file("dns-file");
    let before = stage.state();
    assert!(!stage.found("one"));
    let said = stage.host.run("portmaster dns enable --json");
    assert!(
        said.contains("\"state\":\"enabled\"") && said.contains("/etc/resolv.conf"),
        "{said}"
    );
    let file = stage.host.run("grep -v '^#' /etc/resolv.conf");
    assert_eq!(file, format!("nameserver 127.0.0.17\n{PLAIN}"));
    assert!(stage.found("two"));
    stage.host.run("systemctl restart portmaster-dns.service");
    assert!(stage.found("three"), "also after a restart");
    stage.host.run("portmaster dns disable");
    assert_eq!(stage.state(), before);
    assert!(!stage.found("four"));

    // a link, also one that leads nowhere
    stage.host.run("mv /etc/resolv.conf /run/mine; ln -s ../run/mine /etc/resolv.conf; chown -h daemon:adm /etc/resolv.conf");
    let before = stage.state();
    stage.host.run("portmaster dns enable; portmaster dns disable");
    assert_eq!(stage.state(), before);
    // edited since: named, and nothing is lost
    stage
        .host
        .run("portmaster dns enable; echo '# mine' >>/etc/resolv.conf");
    let said = stage.refused("portmaster dns disable");
    assert!(
        said.contains("/etc/resolv.conf was edited") && said.contains("--force"),
        "{said}"
    );
    stage
        .host
        .run("grep -q '# mine' /etc/resolv.conf; portmaster dns disable --force");
    assert_eq!(stage.state(), before);
    stage
        .host
        .run("grep -q '# mine' /var/lib/portmaster/edited-resolv.conf");
}

#[test]
fn what_would_leave_the_host_without_names_is_refused_and_named() {
    let stage = with_a_file("dns-refused");
    let before = stage.state();
    let check = |command: &str, words: &[&str]| {
        let said = stage.refused(command);
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(stage.state(), before, "{command}");
    };
    let as_somebody = "setpriv --reuid daemon --regid daemon --clear-groups portmaster dns enable";
    check(as_somebody, &["sudo"]);
    // nobody to ask
    stage
        .host
        .run("cp --archive /etc/resolv.conf /run/kept; echo 'nameserver 127.0.0.1' >/etc/resolv.conf");
    eventually("the service knows no server", || {
        (stage
            .host
            .run("portmaster dns upstreams --json || true")
            .is_empty())
        .then_some(())
    });
    let said = stage.refused("portmaster dns enable");
    assert!(said.contains("dns.toml") && said.contains("put back"), "{said}");
    stage.host.run("cp --archive /run/kept /etc/resolv.conf");
    assert_eq!(stage.state(), before);
    // a file that cannot be replaced
    stage.host.run("mount --bind /etc/resolv.conf /etc/resolv.conf");
    check(
        "portmaster dns enable",
        &["change /etc/resolv.conf", "mounted on it"],
    );
    stage.host.run("umount /etc/resolv.conf");
    // C library that asks nobody
    stage
        .host
        .run("cp /etc/nsswitch.conf /run/nss; sed -i 's/^hosts:.*/hosts: files/' /etc/nsswitch.conf");
    check(
        "portmaster dns enable",
        &["did not come to the dns service", "put back"],
    );
    stage.host.run("cp /run/nss /etc/nsswitch.conf");
    // nobody would answer tomorrow, or in a minute
    let enabled = "/etc/systemd/system/multi-user.target.wants/portmaster.target";
    stage.host.run(&format!("mv {enabled} /run/enabled"));
    check("portmaster dns enable", &["systemctl enable portmaster.target"]);
    stage.host.run(&format!("mv /run/enabled {enabled}"));
    stage
        .host
        .run("systemd-run --quiet --unit=portmaster-unconfirmed --on-active=600s true");
    check("portmaster dns enable", &["portmaster confirm"]);
    stage.host.systemctl("stop portmaster-unconfirmed.timer");
    // nobody answers
    stage
        .host
        .run("systemctl stop portmaster.target 'portmaster*.socket' 'portmaster*.service' 2>/dev/null");
    check("portmaster dns enable", &["without names", "portmaster start"]);
    stage
        .host
        .run("portmaster dns enable --force; portmaster dns disable");
    assert_eq!(stage.state(), before);
}
