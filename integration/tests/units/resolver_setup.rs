//! `portmaster dns enable` and `disable` on whole hosts: with systemd-resolved, with NetworkManager, and with a plain file.

use std::net::IpAddr;

use integration::{
    Booted, NameServer,
    booted::{Builder, INTERNET, text},
    eventually,
};

/// In one tree; each test leaves out what it does without.
const MANAGERS: &[&str] = &["systemd-resolved", "network-manager"];
/// A unit of this content is as good as masked.
const NONE: &str = "";
const RESOLVED: &str = "/etc/systemd/system/systemd-resolved.service";
const NETWORK_MANAGER: &str = "/etc/systemd/system/NetworkManager.service";
/// Queries are not redirected: what comes to the service comes by the host's own set-up.
const NO_REDIRECT: &str = "redirect_dns = false\n";

/// What the service remembers; the command goes on for new ones until it is ended.
const LOG: &str = "{ timeout 2 portmaster dns log --recent --json || true; }";

/// The host, and the name server of its network.
struct Stage {
    host: Booted,
    server: NameServer,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new(builder: Builder) -> Self {
        let host = builder
            .file("/etc/portmaster/profiles.d/global.toml", NO_REDIRECT)
            .start();
        let folder = tempfile::tempdir().unwrap();
        let (v4, v6) = INTERNET;
        let records = ["one", "two", "three", "four"].map(|name| format!("host-record={name}.example,{v4}"));
        let server = NameServer::start(
            &host.internet,
            &[IpAddr::from(v4), IpAddr::from(v6)],
            &records,
            folder.path(),
        );
        Self {
            host,
            server,
            _folder: folder,
        }
    }

    /// Everything that decides who is asked, to the last bit.
    fn state(&self) -> String {
        let files = "find /etc/resolv.conf /etc/resolv.conf.* /etc/.resolv* /etc/systemd/resolved.conf* /etc/NetworkManager \
             ! -type d -printf '%p %y %m %u %g %s %T@ %l\\n' 2>/dev/null | sort || true
             find /etc/systemd/resolved.conf* /etc/NetworkManager -type d 2>/dev/null | sort || true
             find /etc/resolv.conf /etc/systemd/resolved.conf* /etc/NetworkManager -type f -exec sha256sum {} + 2>/dev/null || true
             resolvectl dns 2>/dev/null || true; resolvectl domain 2>/dev/null || true";
        self.host.run(files)
    }

    /// The address of a name, as any program asks for it.
    fn getent(&self, name: &str) -> String {
        let said = text(&self.host.attempt(&format!("getent ahostsv4 {name}")));
        said.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// Whether the service was asked for a name, and that not by redirection.
    fn came_to_us(&self, name: &str) -> bool {
        let log = format!("{LOG} | grep '\"name\":\"{name}\"' || true");
        let said = self.host.run(&log);
        let redirected = said.lines().find(|line| line.contains("\"redirected\":true"));
        assert_eq!(redirected, None);
        !said.is_empty()
    }

    /// A name that was not asked for before is found, and whether the service found it.
    #[track_caller]
    fn found(&self, name: &str) -> bool {
        let name = format!("{name}.example");
        // it looks at the system's servers when they change, and a failure is remembered for seconds
        let known = "portmaster dns upstreams --json || true";
        eventually("the service knows a server", || {
            (!self.host.run(known).is_empty()).then_some(())
        });
        let address = eventually("the name is found", || {
            Some(self.getent(&name)).filter(|said| !said.is_empty())
        });
        assert_eq!(address, INTERNET.0.to_string(), "{name}");
        assert!(self.server.asked(&name) > 0, "the network's server was asked");
        self.came_to_us(&name)
    }

    #[track_caller]
    fn refused(&self, command: &str) -> String {
        let output = self.host.attempt(command);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}

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

    stage.host.run("portmaster dns disable");
    assert_eq!(stage.state(), before);
    assert!(!stage.found("four"));
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

const PLAIN: &str = "search lan\noptions timeout:2\n";

fn with_a_file(label: &str) -> Stage {
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

/// Without what NetworkManager does itself: it keeps its connections, and makes its link anew.
fn but_for_the_manager(state: &str) -> Vec<String> {
    let others = state.lines().filter(|line| !line.contains("nm0.nmconnection"));
    let untimed = |line: &str| match line.strip_prefix("/etc/resolv.conf l ") {
        Some(link) => {
            let words: Vec<_> = link.split_whitespace().collect();
            format!("link {:?} {:?}", &words[..4], words.last())
        }
        None => line.to_owned(),
    };
    others.map(untimed).collect()
}

/// A host whose NetworkManager writes `/etc/resolv.conf`, with the network's server on a cable of its own.
fn with_network_manager(label: &str) -> Stage {
    let stage = Stage::new(
        Booted::builder(label)
            .packages(MANAGERS)
            .file(RESOLVED, NONE)
            .file(
                "/etc/NetworkManager/conf.d/test.conf",
                "[main]\nplugins=keyfile\ndns=default\nrc-manager=symlink\n",
            )
            .file("/etc/NetworkManager/dispatcher.d/01-ifupdown", "#!/bin/true\n"),
    );
    stage.host.run(&format!(
        "ip link add nm0 type veth peer name nm1; ip link set nm1 up
         rm /etc/resolv.conf; ln -s /run/NetworkManager/resolv.conf /etc/resolv.conf
         nmcli connection add type ethernet ifname nm0 con-name nm0 ipv4.method manual ipv4.addresses 10.99.0.1/24 \
             ipv4.dns {} ipv4.dns-search lan ipv6.method disabled
         nmcli connection up nm0",
        INTERNET.0
    ));
    eventually("NetworkManager wrote the file", || {
        let written = stage.host.run("cat /etc/resolv.conf || true");
        written.contains(&INTERNET.0.to_string()).then_some(())
    });
    stage
}

#[test]
fn with_network_manager_names_come_to_us_and_afterwards_all_is_as_before() {
    let stage = with_network_manager("dns-manager");
    let before = stage.state();
    assert!(!stage.found("one"));
    let said = stage.host.run("portmaster dns enable");
    assert!(
        said.contains("NetworkManager/conf.d") && said.contains("/etc/resolv.conf"),
        "{said}"
    );
    assert!(stage.found("two"));
    // it hears of another network, and leaves the file alone; the service follows it
    stage.host.run(&format!(
        "nmcli connection modify nm0 ipv4.dns-search office; nmcli connection up nm0; nmcli general reload"
    ));
    stage
        .host
        .run("grep -q '^nameserver 127.0.0.17$' /etc/resolv.conf; systemctl restart portmaster-dns.service");
    assert!(stage.found("three"));
    stage
        .host
        .run("nmcli connection modify nm0 ipv4.dns-search lan; nmcli connection up nm0");

    stage.host.run("portmaster dns disable");
    assert_eq!(but_for_the_manager(&stage.state()), but_for_the_manager(&before));
    eventually("NetworkManager writes the file again", || {
        let written = stage.host.run("cat /etc/resolv.conf || true");
        written.contains(&INTERNET.0.to_string()).then_some(())
    });
    assert!(!stage.found("four"));
}
