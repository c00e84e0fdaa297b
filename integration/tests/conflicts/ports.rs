//! Ports that are to be ours.

use integration::{Namespace, Running, eventually};

use crate::check;

#[test]
fn a_resolver_on_our_address_is_for_later_and_one_elsewhere_is_not() {
    let host = Namespace::new("dns");
    let dnsmasq = |address: &str| {
        let mut command = host.command("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--pid-file=",
        ]);
        command.args(["--bind-interfaces", "--listen-address", address]);
        let running = Running::start("dnsmasq", command);
        eventually("dnsmasq listens", || {
            host.sh("ss -Hlun sport = 53")
                .contains(&format!("{address}:53"))
                .then_some(())
        });
        running
    };
    let stub = dnsmasq("127.0.0.53");
    let said = check(&host);
    assert_eq!(said.status, Some(0));
    assert!(
        said.codes()
            .iter()
            .all(|found| *found == ("beside", "port-elsewhere")),
        "{said:#?}"
    );
    assert!(
        said.text("port-elsewhere").contains("dnsmasq (process "),
        "{said:#?}"
    );
    stub.kill();

    let _local = dnsmasq("127.0.0.1");
    let said = check(&host);
    assert_eq!(said.status, Some(0), "nothing is in the way today");
    assert_eq!(said.codes(), [("later", "port-taken"); 2], "{said:#?}");
    assert!(said.text("port-taken").contains("127.0.0.1:53"));
}

#[test]
fn whoever_sits_where_tunnelled_connections_are_led_is_in_the_way() {
    let host = Namespace::new("gate17");
    let listener = host.enter(|| std::net::TcpListener::bind(("127.0.0.17", 717)).unwrap());
    let said = check(&host);
    assert_eq!(
        (said.codes(), said.status),
        (vec![("clash", "port-taken")], Some(2))
    );
    drop(listener);
    assert_eq!(check(&host).status, Some(0));
}
