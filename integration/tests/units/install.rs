//! `make install` and `make uninstall` on a host that runs.

use std::collections::BTreeSet;

use integration::Booted;

use super::{SERVICES, curl, rules_stand, web_server};

/// All names of files below what packages and programs write.
fn files(host: &Booted) -> BTreeSet<String> {
    let list = host.run("find /etc /usr /var/lib /opt /srv /root /home -xdev -mindepth 1; find /run -xdev -name '*portmaster*'");
    list.lines().map(str::to_owned).collect()
}

/// Written by others while the host runs, or by what makes users.
fn is_ours(file: &str) -> bool {
    let others = [
        "/var/lib/systemd",
        "/etc/.pwd.lock",
        "/etc/.updated",
        "/var/lib/private",
    ];
    let backups = [
        "/etc/passwd-",
        "/etc/group-",
        "/etc/shadow-",
        "/etc/gshadow-",
        "/etc/subuid-",
        "/etc/subgid-",
    ];
    !others.iter().any(|other| file.starts_with(other)) && !backups.contains(&file)
}

#[test]
fn install_works_at_once_and_uninstall_leaves_only_the_state() {
    let host = Booted::builder("install").plain().with_repository().start();
    web_server(&host);
    let before = files(&host);
    let users = |host: &Booted| host.run("cut -d: -f1 /etc/passwd /etc/group | sort");
    let users_before = users(&host);

    host.run("PROGRAMS=/programs /src/scripts/install");
    assert!(!rules_stand(&host), "nothing is started by itself");
    assert_eq!(
        host.systemctl("is-enabled portmaster.target || true"),
        "disabled\n"
    );
    host.systemctl("enable --now portmaster.target");
    for (unit, _) in SERVICES {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    assert!(rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
    assert_eq!(host.run("cat /proc/sys/net/netfilter/nf_conntrack_acct"), "1\n");
    // the bus knows whose names these are
    let owner = "busctl --system status org.portmaster.Policy1 | grep ^EUID=";
    let owner = integration::eventually("policy is on the bus", || {
        let output = host.attempt(owner);
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    });
    assert_eq!(
        owner.trim(),
        format!("EUID={}", host.run("id -u portmaster-policy").trim())
    );
    host.run("portmaster-interceptor --version 2>/dev/null && exit 1; man=/usr/share/man/man1/portmaster.1; test -s $man");
    host.profile("mine", "[[match]]\npath = \"/usr/bin/true\"\n");

    // again over what runs: nothing of the owner's is lost, nothing stops
    let pid = host.property("portmaster-interceptor.service", "MainPID");
    host.run("PROGRAMS=/programs /src/scripts/install");
    assert_eq!(host.property("portmaster-interceptor.service", "MainPID"), pid);
    assert_eq!(
        host.run("ls /etc/portmaster/profiles.d/mine.toml"),
        "/etc/portmaster/profiles.d/mine.toml\n"
    );

    host.run("/src/scripts/uninstall");
    assert!(!rules_stand(&host));
    assert_eq!(curl(&host).unwrap(), "hello");
    let left: Vec<_> = files(&host)
        .difference(&before)
        .filter(|file| is_ours(file))
        .cloned()
        .collect();
    assert!(
        !left.is_empty() && left.iter().all(|file| file.starts_with("/var/lib/portmaster")),
        "{left:#?}"
    );
    assert_eq!(
        host.run("cat /var/lib/portmaster/removed-configuration/profiles.d/mine.toml | wc -l"),
        "2\n"
    );
    assert_eq!(
        host.run("find /var/lib/portmaster ! -user root"),
        "",
        "its users' numbers may be given to others"
    );
    assert_eq!(users(&host), users_before);
    assert_eq!(
        host.systemctl("list-units --all --no-legend --plain 'portmaster*'"),
        ""
    );
    let lost: Vec<_> = before
        .difference(&files(&host))
        .filter(|file| is_ours(file))
        .cloned()
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");

    host.run("/src/scripts/uninstall --purge");
    let left: Vec<_> = files(&host)
        .difference(&before)
        .filter(|file| is_ours(file))
        .cloned()
        .collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn another_prefix_works_as_well() {
    let host = Booted::builder("prefix").plain().with_repository().start();
    web_server(&host);
    host.run("PREFIX=/usr/local PROGRAMS=/programs /src/scripts/install");
    host.systemctl("start portmaster.target");
    assert_eq!(curl(&host).unwrap(), "hello");
    let program = host.run(&format!(
        "readlink /proc/{}/exe",
        host.property("portmaster-policy.service", "MainPID")
    ));
    assert_eq!(program, "/usr/local/libexec/portmaster/portmaster-policy\n");
    integration::eventually("policy is on the bus", || {
        host.attempt("busctl --system status org.portmaster.Policy1")
            .status
            .success()
            .then_some(())
    });
    host.run("PREFIX=/usr/local /src/scripts/uninstall --purge");
    assert_eq!(host.run("find / -xdev -path /proc -prune -o -path /src -prune -o -path /programs -prune -o -name '*portmaster*' -print"), "");
}
