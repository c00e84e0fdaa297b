//! A whole host, where it is started.

use integration::Booted;

#[test]
fn a_start_names_what_is_in_the_way_and_starts() {
    let host = Booted::builder("conflict").disabled().start();
    assert!(
        host.run("portmaster check-host")
            .contains("nothing is in the way")
    );
    host.run("iptables -t nat -A OUTPUT -j MARK --or-mark 0x4000");
    let found = host.attempt("portmaster check-host");
    assert_eq!(found.status.code(), Some(2));
    let said = integration::booted::text(&host.attempt("portmaster start"));
    assert!(
        said.contains("in the way: somebody (iptables-nft, IPv4, nat OUTPUT)"),
        "{said}"
    );
    assert_eq!(host.property("portmaster.target", "ActiveState"), "active");
}

#[test]
fn what_a_host_lacks_runs_or_flushes_is_named() {
    let host = Booted::builder("lacks").disabled().start();
    let check = || {
        let output = host.attempt("portmaster check-host");
        (output.status.code(), integration::booted::text(&output))
    };
    // the package's own /etc/nftables.conf
    host.run("systemctl enable nftables.service");
    let (status, said) = check();
    assert!(status == Some(0) && said.contains("flush ruleset"), "{said}");
    host.run("systemctl disable nftables.service");
    // known by the file that it executes
    host.run("cp /bin/sleep /usr/bin/opensnitchd; systemd-run --quiet --unit=opensnitch opensnitchd 600");
    let (status, said) = check();
    assert!(
        status == Some(2) && said.contains("OpenSnitch runs as well: opensnitchd (process "),
        "{said}"
    );
    host.run("systemctl stop opensnitch.service; rm /usr/sbin/ip6tables-restore");
    let (status, said) = check();
    assert!(
        status == Some(2)
            && said.contains("not installed: ip6tables-restore")
            && said.contains("package iptables"),
        "{said}"
    );
}
