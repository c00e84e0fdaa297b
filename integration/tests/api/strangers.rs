//! Another host finds nobody here: neither at the addresses, nor by a rule of somebody else's that leads to 127.0.0.1.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use integration::{World, eventually};

use super::{
    hostile::counter,
    stage::{call, world},
};

/// An address of the host that others send to the gateway.
const LENT: Ipv4Addr = Ipv4Addr::new(198, 18, 99, 98);

/// What the other host got: nothing (`None`), or how its connection ended.
fn asked(world: &World) -> Option<String> {
    world.internet.enter(|| {
        let address = SocketAddr::from((LENT, 817));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request = b"GET /portmaster.api.v1.System/GetVersion HTTP/1.1\r\nhost: 127.0.0.1:817\r\n\r\n";
        let _ = stream.write_all(request);
        let mut said = String::new();
        match stream.read_to_string(&mut said) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        Some(said)
    })
}

#[test]
fn another_host_is_refused_by_rule_and_at_the_socket() {
    let world = world("strangers");
    world.host.add_address(LENT);
    world
        .internet
        .sh(&format!("ip route add {LENT} via {}", world.link.a.v4));
    world.host.sh(&format!(
        "nft -f - <<'END'
table ip foreign {{
    chain in {{
        type nat hook prerouting priority -110;
        ip daddr {LENT} tcp dport 817 dnat to 127.0.0.1:817
    }}
}}
END
echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet"
    ));
    // by rule, as shipped: nothing comes in
    assert_eq!(asked(&world), None);
    assert_eq!(counter(&world, "connections_of_strangers"), 0);
    // and where the owner lets everything in: it is closed without a word, and counted
    world.profile("global", "[settings]\nblock_incoming = false\n");
    let said = eventually("others get as far as to the gateway", || asked(&world));
    assert_eq!(said, "");
    assert!(counter(&world, "connections_of_strangers") > 0);
    assert_eq!(call(&world, "System/GetVersion", "{}").code, 200);
}
