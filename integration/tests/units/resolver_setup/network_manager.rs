//! With NetworkManager, which writes `/etc/resolv.conf`.

use integration::{Booted, booted::INTERNET, eventually};

use super::{MANAGERS, NONE, Stage};

const RESOLVED: &str = "/etc/systemd/system/systemd-resolved.service";

/// Without what NetworkManager does itself: it keeps its connections, and makes its link anew.
fn but_for_the_manager(state: &str) -> Vec<String> {
    let others = state.lines().filter(|line| !line.contains("nm0.nmconnection"));
    let untimed = |line: &str| match line.strip_prefix("/etc/resolv.conf l ") {
        Some(link) => {
            let words: Vec<_> = link.split_whitespace().collect();
            let timeless = words.iter().enumerate().filter(|(at, _)| *at != 4);
            format!("link {:?}", timeless.collect::<Vec<_>>())
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
    stage.host.run(
        "nmcli connection modify nm0 ipv4.dns-search office; nmcli connection up nm0; nmcli general reload",
    );
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
