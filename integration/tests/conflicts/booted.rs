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
